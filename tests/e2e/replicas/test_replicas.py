"""Replicas that die and that leave, under load, with everything that deploy/ puts around them."""

import asyncio
import signal
import time
from functools import partial

import pytest

from tests.e2e.replicas.estate import ANNOUNCE_S, GRACE_S, Estate, until
from tests.e2e.replicas.load import load_on

STREAMS = 'obol_rpcs_in_flight{rpc="BillingObservation/WatchObservations"}'
WORDLESS = (" UNAVAILABLE", " INTERNAL", " UNKNOWN", " CANCELLED", " DRAINING")
"""How an error ends in which no gateway spoke, or only to say that it goes."""

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]


async def test_a_gateway_and_a_sidecar_die_and_come_back_under_load(estate: Estate) -> None:
    """Killed and started again: nothing acknowledged is lost, a key has one effect, readers see no error."""
    async with load_on(estate, "killed") as load:
        await load.more(12)
        estate.gateways[0].kill()
        await load.more(12)
        await estate.revive(estate.gateways[0])
        estate.sidecars[1].kill()
        await load.more(12)
        await estate.revive(estate.sidecars[1])
        await load.more(6)
    assert not load.read_errors


async def test_a_gateway_leaves_without_a_word_to_its_callers(estate: Estate) -> None:
    """SIGTERM: no read fails, no command loses its answer, streams go on elsewhere, and it ends by itself in time."""
    async with load_on(estate, "drained") as load:
        await load.more(12)
        number = 1 if await estate.metric(1, STREAMS) else 0
        leaving, staying = estate.gateways[number], 1 - number
        errors = load.journal.errors.copy()
        began_s = time.monotonic()
        leaving.signal(signal.SIGTERM)
        async with asyncio.timeout(ANNOUNCE_S + 2 * GRACE_S + 5):
            await leaving.ended.wait()
        took_s = time.monotonic() - began_s
        await load.more(6)
        await until(partial(_has_streams, estate, staying, 2), "both streams are at the gateway that stays")
        lost = {error: count for error, count in (load.journal.errors - errors).items() if error.endswith(WORDLESS)}
        await estate.revive(leaving)
        await load.more(6)
    assert (leaving.exits[-1], took_s >= ANNOUNCE_S) == (0, True)
    assert "left in the air" not in leaving.log.read_text()
    assert not load.read_errors
    assert not lost
    assert set(load.watcher.disconnects) <= {"DRAINING"}


async def _has_streams(estate: Estate, number: int, wanted: int) -> bool:
    return await estate.metric(number, STREAMS) == wanted
