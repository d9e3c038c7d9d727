"""How often the sequencer runs: by what a run costs."""

import asyncio

import pytest

from gateway.app.sequencer import REST_S_MAX, REST_S_MIN, RESTS, Sequencer


class Numbering:
    """A store whose runs take as long as they are told, on a clock of its own."""

    def __init__(self, *took_s: float) -> None:
        self._took_s = iter(took_s)
        self._now_s = 0.0
        self.rested_s: list[float] = []

    async def number_observations(self) -> int:
        self._now_s += next(self._took_s)
        return 1

    def monotonic(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        self.rested_s.append(seconds)


@pytest.mark.parametrize(("took_s", "rest_s"), [(0.001, REST_S_MIN), (0.005, RESTS * 0.005), (3.0, REST_S_MAX)])
async def test_the_next_run_waits_as_the_last_one_took(took_s: float, rest_s: float) -> None:
    """A quick run is followed soon, a slow one later; never at once, and never later than the bound."""
    numbering = Numbering(took_s, took_s)
    sequencer = Sequencer(numbering, asyncio.Event(), monotonic=numbering.monotonic, sleep=numbering.sleep)
    await sequencer.run_once()
    await sequencer.run_once()
    assert numbering.rested_s == pytest.approx([REST_S_MIN, rest_s])


async def test_what_is_appended_during_a_run_is_not_forgotten() -> None:
    """The wake is cleared before the run looks: what comes while it does wakes it again."""
    appended = asyncio.Event()

    class Late(Numbering):
        async def number_observations(self) -> int:
            appended.set()
            return await super().number_observations()

    numbering = Late(0.001)
    sequencer = Sequencer(numbering, appended, monotonic=numbering.monotonic, sleep=numbering.sleep)
    await sequencer.run_once()
    assert appended.is_set()
