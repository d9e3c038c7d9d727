"""From a provider's webhook to its 2xx: through the sidecar into the inbox, whatever the provider's own API does.

Two accounts: one whose look-ups answer, and a dead one, whose look-ups hang until they time out, so that no callback of
it comes to an end. Each is measured in a closed loop, and at a rate of its own: callbacks come when the provider sends
them, whether or not the last one has its answer, and wait from the moment when they were due.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import aiohttp

from bench import requests
from bench.databases import Engine, meter_of
from bench.effort import RATIO_CALLERS, Effort
from bench.load import Call, CpuUsed, Meter, Round, run_open_round, run_round
from bench.processes import DEAD_ACCOUNT, FAST_ACCOUNT, Server
from bench.provider import PROVIDER
from obol.v1 import payment_pb2

ARRIVALS_PER_S = 50
ANSWERING, DEAD = "answers", "is dead"

Payments = Sequence[payment_pb2.Payment]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """How long callbacks waited for their 2xx, the medians of some rounds; `arrivals` says how they came."""

    engine: str
    provider: str
    arrivals: str
    rate: float
    p50_ms: float
    p99_ms: float
    server_ms: float
    database_ms: float

    @classmethod
    def of(cls, engine: str, provider: str, arrivals: str, rounds: Sequence[Round]) -> "Acknowledged":
        """From rounds of one kind."""
        return cls(
            engine,
            provider,
            arrivals,
            median(each.rate for each in rounds),
            median(each.percentile_ms(50) for each in rounds),
            median(each.percentile_ms(99) for each in rounds),
            median(each.server_ms for each in rounds),
            median(each.database_ms for each in rounds),
        )


async def measure_acknowledgements(
    sidecar: Server, gateway: Server, payments: Mapping[str, Payments], engine: Engine, effort: Effort
) -> list[Acknowledged]:
    """Both accounts, each way; `payments` of each account by its id. The applying goes on beside it all."""
    meter = _both(sidecar, meter_of(engine, gateway))
    found = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for account_id, provider in ((FAST_ACCOUNT, ANSWERING), (DEAD_ACCOUNT, DEAD)):
            call = _calling_back(session, sidecar, account_id, payments[account_id])
            for callers in effort.callers if provider == ANSWERING else (RATIO_CALLERS,):
                rounds = [
                    await run_round(call, callers=callers, seconds=effort.side_round_s, meter=meter)
                    for _ in range(effort.side_rounds)
                ]
                found.append(Acknowledged.of(engine, provider, f"{callers} callers in turn", rounds))
            rounds = [
                await run_open_round(call, per_s=ARRIVALS_PER_S, seconds=effort.open_s, meter=meter)
                for _ in range(effort.side_rounds)
            ]
            found.append(Acknowledged.of(engine, provider, f"{ARRIVALS_PER_S} a second", rounds))
    return found


def _calling_back(session: aiohttp.ClientSession, sidecar: Server, account_id: str, payments: Payments) -> Call:
    url = f"http://{sidecar.address}/webhooks/{PROVIDER}/{account_id}"
    about = itertools.cycle(payments)

    async def call_back() -> None:
        signed = requests.callback(next(about))
        async with session.post(url, data=signed.body, headers=signed.headers) as answer:
            if answer.status != 200:
                raise RuntimeError(f"the sidecar answered {answer.status}: {await answer.text()}")

    return call_back


def _both(sidecar: Server, gateway: Meter) -> Meter:
    def meter() -> CpuUsed:
        used = gateway()
        return CpuUsed(used.server_s + sidecar.cpu_s(), used.database_s)

    return meter
