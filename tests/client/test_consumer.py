"""The durable consumer, in a thread and in a loop: at least once, in order, and the place only after the word."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from obol.client import (
    Accept,
    Backoff,
    BillingObservationClient,
    ConsumerLimits,
    Decision,
    FileCursorStore,
    InvalidRequest,
    NotFound,
    ObservationConsumer,
    Precondition,
    Reject,
    channel,
)
from obol.v1.observation_pb2 import Observation
from tests.client.asking import CALLER
from tests.client.consuming import QUICK, Clock, Memory, accepting, consuming, names
from tests.client.observing import Gateway, name


@pytest.fixture(params=["sync", "aio"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both consumers hold the same promises."""
    return str(request.param)


async def test_everything_is_seen_in_order_and_decided(kind: str) -> None:
    """Each observation is handled once where nothing breaks, and its decision arrives, with the reason of a refusal."""
    gateway, seen = Gateway(last=25), list[str]()

    def handle(observation: Observation) -> Decision:
        seen.append(observation.observation_id)
        return Reject("not ours") if observation.observation_id == name(7) else Accept()

    async with consuming(kind, gateway, handle) as running:
        await running.until(lambda: len(gateway.accepted) + len(gateway.rejected) == 25)
    assert seen == names(25)
    assert gateway.rejected == {name(7): "not ours"}


async def test_the_place_is_kept_only_after_the_word(kind: str) -> None:
    """Whenever a cursor is saved, the gateway has the decision on everything before it."""
    gateway = Gateway(last=30, refuse_decisions=3)
    store = Memory(gateway)
    limits = ConsumerLimits(batch_max=4, batch_age_s_max=0.05, backoff=QUICK.backoff)
    async with consuming(kind, gateway, accepting([]), cursors=store, limits=limits) as running:
        await running.until(lambda: store.load() == "c30")
    assert store.undecided == []


async def test_a_lost_acknowledgement_is_asked_for_again(kind: str) -> None:
    """A decision that took effect without an answer is sent again before the place is kept."""
    gateway = Gateway(last=3, lose_answers=2)
    store = Memory(gateway)
    async with consuming(kind, gateway, accepting([]), cursors=store) as running:
        await running.until(lambda: store.load() == "c3")
    assert gateway.accepted == names(3) * 3


async def test_a_broken_stream_goes_on_where_it_was_decided(kind: str) -> None:
    """After a drain the consumer resumes from what was acknowledged, misses nothing and decides nothing twice."""
    gateway, seen = Gateway(last=12, break_after=[3, 0, 5]), list[str]()
    async with consuming(kind, gateway, accepting(seen), cursors=Memory(gateway)) as running:
        await running.until(lambda: len(gateway.accepted) == 12)
    assert seen == names(12)
    assert gateway.began_at == ["", "c3", "c3", "c8"]


async def test_the_gateway_keeps_the_place_where_nobody_else_does(kind: str) -> None:
    """Without a store a second run begins after what was decided."""
    gateway, seen = Gateway(last=4), list[str]()
    for last in (4, 9):
        gateway.last = last
        async with consuming(kind, gateway, accepting(seen)) as running:
            await running.until(lambda last=last: len(gateway.accepted) == last)  # type: ignore[misc]  # bound now
    assert seen == names(9)


async def test_a_place_in_a_file_survives_the_process(kind: str, tmp_path: Path) -> None:
    """A second consumer over the same file begins where the first one ended."""
    gateway, seen = Gateway(last=4), list[str]()
    for last in (4, 9):
        gateway.last = last
        store = FileCursorStore(tmp_path / "cursor")
        async with consuming(kind, gateway, accepting(seen), cursors=store) as running:
            await running.until(lambda store=store, last=last: store.load() == f"c{last}")  # type: ignore[misc]  # as above
    assert seen == names(9)
    assert "c4" in gateway.began_at


async def test_a_silent_stream_is_given_up(kind: str) -> None:
    """Nothing for `silence_s_max`, not even a heartbeat, and the consumer connects again."""
    gateway = Gateway(last=2, silent_streams=1)
    limits = ConsumerLimits(silence_s_max=0.3, batch_age_s_max=0.05, backoff=QUICK.backoff)
    async with consuming(kind, gateway, accepting([]), limits=limits) as running:
        await running.until(lambda: set(gateway.accepted) == set(names(2)))
    # More than two where the machine itself was silent for so long.
    assert gateway.began_at[:2] == ["", ""]


async def test_heartbeats_keep_a_quiet_stream(kind: str) -> None:
    """A stream with nothing new but heartbeats is not given up."""
    gateway, clock = Gateway(last=0), Clock()
    store = Memory(gateway)
    limits = ConsumerLimits(silence_s_max=0.3, backoff=QUICK.backoff)
    async with consuming(kind, gateway, accepting([]), cursors=store, limits=limits, now=clock) as running:
        for number in range(1, 11):
            gateway.passed_over = number
            await running.until(lambda number=number: store.load() == f"c{number}")  # type: ignore[misc]  # bound now
            clock.seconds += 0.2
    assert len(gateway.began_at) == 1


async def test_short_waits_do_not_add_up_to_silence(kind: str) -> None:
    """A stream that speaks every 150 ms is never silent for 200 ms, however often its decisions are sent meanwhile."""
    gateway, clock, seen = Gateway(last=0, heartbeats=False), Clock(), list[str]()
    limits = ConsumerLimits(silence_s_max=0.2, batch_age_s_max=0.02, backoff=QUICK.backoff)
    async with consuming(kind, gateway, accepting(seen), limits=limits, now=clock) as running:
        for number in range(1, 11):
            gateway.last = number
            await running.until(lambda number=number: len(seen) == number)  # type: ignore[misc]  # bound now
            # The decision has its time, and the consumer waits for what comes next.
            reads = clock.reads
            await running.until(lambda reads=reads: clock.reads >= reads + 2)  # type: ignore[misc]  # as above
            clock.seconds += 0.15
            await running.until(lambda number=number: len(gateway.accepted) == number)  # type: ignore[misc]  # as above
    assert len(gateway.began_at) == 1


async def test_a_slow_handler_is_not_silence(kind: str) -> None:
    """The handler's own time does not count against the stream."""
    gateway, clock = Gateway(last=3), Clock()

    def handle(observation: Observation) -> Decision:
        clock.seconds += 60.0
        return Accept()

    limits = ConsumerLimits(silence_s_max=0.25, batch_age_s_max=0.01, backoff=QUICK.backoff)
    async with consuming(kind, gateway, handle, limits=limits, now=clock) as running:
        await running.until(lambda: len(gateway.accepted) == 3)
    assert len(gateway.began_at) == 1


async def test_a_heartbeat_moves_the_place_but_not_past_the_undecided(kind: str) -> None:
    """A heartbeat's cursor is kept after what came before it is decided."""
    gateway = Gateway(last=3)
    store = Memory(gateway)
    limits = ConsumerLimits(batch_age_s_max=60.0, backoff=QUICK.backoff)
    async with consuming(kind, gateway, accepting([]), cursors=store, limits=limits) as running:
        await running.until(lambda: store.load() == "c3")
    assert store.undecided == []


async def test_few_decisions_do_not_wait_for_many(kind: str) -> None:
    """Without heartbeats a half-full batch goes after `batch_age_s_max`."""
    gateway = Gateway(last=1, heartbeats=False)
    async with consuming(kind, gateway, accepting([])) as running:
        await running.until(lambda: gateway.accepted == names(1))


async def test_batches_are_bounded(kind: str) -> None:
    """No Accept carries more than `batch_max`."""
    gateway = Gateway(last=50)
    limits = ConsumerLimits(batch_max=7, batch_age_s_max=5.0, backoff=QUICK.backoff)
    async with consuming(kind, gateway, accepting([]), limits=limits) as running:
        await running.until(lambda: len(gateway.accepted) == 50)
    assert max(gateway.batches) == 7


async def test_a_slow_handler_holds_the_gateway_back(kind: str) -> None:
    """Of 100 MB of observations only what the buffers take is read ahead of the handler."""
    gateway = Gateway(last=1_600, padding=64 * 1024)
    limits = ConsumerLimits(buffered_max=10, backoff=QUICK.backoff)
    release = asyncio.Event()

    def handle(observation: Observation) -> Decision:
        time.sleep(0.001 if release.is_set() else 0.05)
        return Accept()

    async with consuming(kind, gateway, handle, limits=limits) as running:
        await running.until(lambda: len(gateway.accepted) >= 10)
        assert gateway.written < 600
        release.set()


async def test_a_handler_that_fails_leaves_its_observation_undecided(kind: str) -> None:
    """run() raises what the handler raised; what was decided before is sent, and the rest comes again."""
    gateway = Gateway(last=5)

    def handle(observation: Observation) -> Decision:
        if observation.observation_id == name(4):
            raise LookupError("no ledger")
        return Accept()

    store = Memory(gateway)
    async with consuming(kind, gateway, handle, cursors=store, limits=ConsumerLimits()) as running:
        with pytest.raises(LookupError, match="no ledger"):
            await running.until(lambda: False)
    assert gateway.accepted == names(3)
    assert store.load() == "c3"


async def test_a_handler_that_forgets_to_decide_has_accepted_nothing(kind: str) -> None:
    """None is no decision."""
    gateway = Gateway(last=1)
    forgetful: Callable[[Observation], Any] = lambda observation: None  # noqa: E731  the shortest handler there is
    async with consuming(kind, gateway, forgetful) as running:
        with pytest.raises(TypeError, match="Accept or Reject"):
            await running.until(lambda: False)
    assert gateway.accepted == []


async def test_a_cursor_that_is_none_ends_the_consumer(kind: str) -> None:
    """What waiting does not mend is raised and not tried for ever."""
    gateway = Gateway()
    store = Memory(gateway, saved=["nonsense"])
    async with consuming(kind, gateway, accepting([]), cursors=store) as running:
        with pytest.raises(InvalidRequest) as raised:
            await running.until(lambda: False)
    assert raised.value.reason == "CURSOR_INVALID"
    assert gateway.began_at == ["nonsense"]


async def test_a_contradiction_is_raised(kind: str) -> None:
    """Accepting what was rejected before ends the consumer; the place stays."""
    gateway = Gateway(last=2, rejected={name(2): "before"})
    store = Memory(gateway)
    async with consuming(kind, gateway, accepting([]), cursors=store, limits=ConsumerLimits()) as running:
        with pytest.raises(Precondition):
            await running.until(lambda: False)
    assert store.saved == []


async def test_decisions_on_what_a_restore_lost_are_dropped_and_the_rest_comes_again(kind: str) -> None:
    """A consumer that ran across a restore goes on from its kept place, and decides again what is still there."""
    gateway, seen = Gateway(last=3, forget_decisions=1), list[str]()
    store = Memory(gateway)
    async with consuming(kind, gateway, accepting(seen), cursors=store) as running:
        await running.until(lambda: store.load() == "c3")
    assert gateway.accepted == names(3)
    assert seen == names(3) * 2
    assert gateway.began_at == ["", ""]


async def test_what_is_not_there_again_and_again_ends_the_consumer(kind: str) -> None:
    """A gateway that never knows what it has just sent is broken, and nobody goes round with it for ever."""
    gateway = Gateway(last=3, forget_decisions=9)
    store = Memory(gateway)
    async with consuming(kind, gateway, accepting([]), cursors=store) as running:
        with pytest.raises(NotFound):
            await running.until(lambda: False)
    assert (store.saved, len(gateway.began_at)) == ([], 2)


async def test_stop_sends_what_was_decided(kind: str) -> None:
    """stop() does not throw away decisions that were waiting for company."""
    gateway, seen = Gateway(last=3, heartbeats=False), list[str]()
    limits = ConsumerLimits(batch_age_s_max=60.0, backoff=QUICK.backoff)
    async with consuming(kind, gateway, accepting(seen), limits=limits) as running:
        await running.until(lambda: len(seen) == 3)
        assert gateway.accepted == []
        running.stop()
        await running.until(lambda: gateway.accepted == names(3))


async def test_stop_ends_a_wait(kind: str) -> None:
    """In an outage stop() does not wait for the next attempt."""
    gateway = Gateway(break_after=[0] * 100)
    limits = ConsumerLimits(backoff=Backoff(delay_s=60.0, delay_s_max=60.0))
    longest: Callable[[float, float], float] = lambda low, high: high  # noqa: E731  no chance of a short one
    async with consuming(kind, gateway, accepting([]), limits=limits, uniform=longest) as running:
        await running.until(lambda: len(gateway.began_at) == 1)
        await asyncio.sleep(0.1)
        began = time.monotonic()
        running.stop()
        await running.task
        assert time.monotonic() - began < 30.0


@pytest.mark.parametrize("consumer", ["", "Ledger", "led ger", "x" * 101])
def test_a_consumers_name_is_checked_before_the_wire(consumer: str) -> None:
    """1 to 100 characters of [a-z0-9_.-]."""
    with channel("unix:/nonexistent") as opened, pytest.raises(ValueError, match="name"):
        ObservationConsumer(BillingObservationClient(opened, CALLER), consumer, accepting([]))


@pytest.mark.parametrize("reason", ["", "x" * 501])
def test_a_rejection_needs_a_reason(reason: str) -> None:
    """1 to 500 characters."""
    with pytest.raises(ValueError, match="reason"):
        Reject(reason)
