"""Payments: the floor and the gateway side by side, then what else is asked of a payment."""

import itertools
from dataclasses import dataclass

from bench import requests
from bench.databases import Engine, analyse, fresh, meter_of
from bench.effort import RATIO_CALLERS, Effort
from bench.floor import FLOOR
from bench.load import Call, Line, Round, Send, Subject, interleaved, paired_ratio, run_round, sending
from bench.processes import FAST_ACCOUNT, Bench, Server

WARM_S = 1.0
PAYMENTS_READ = 256


@dataclass(frozen=True, slots=True)
class Payments:
    """The lines of an engine, and its ratio: the gateway's payments a second over the floor's."""

    lines: list[Line]
    ratio: float
    request_bytes: int
    response_bytes: int


def creating(send: Send, account_id: str = FAST_ACCOUNT) -> Call:
    """A caller that creates payments."""

    async def create() -> None:
        await send(requests.create(account_id))

    return create


async def created(send: Send, count: int, account_id: str = FAST_ACCOUNT) -> list[bytes]:
    """The replies of `count` new payments, each of which is seen to be captured."""
    replies = [await send(requests.create(account_id)) for _ in range(count)]
    for reply in replies:
        if requests.created_payment(reply).state != requests.CAPTURED:
            raise RuntimeError(f"a payment was not captured: {requests.created_payment(reply)}")
    return replies


async def warmed(send: Send, server: Server, engine: Engine, url: str) -> None:
    """Bring a gateway to the state that it is in after its first minute."""
    await run_round(creating(send), callers=RATIO_CALLERS, seconds=WARM_S, meter=meter_of(engine, server))
    analyse(url)
    await run_round(creating(send), callers=RATIO_CALLERS, seconds=WARM_S / 2, meter=meter_of(engine, server))


async def measure_payments(bench: Bench, engine: Engine, effort: Effort) -> Payments:
    """Interleaved rounds of the floor and of CreatePayment, at every number of callers."""
    floor_url, url = fresh(engine, bench.folder, migrated=False), fresh(engine, bench.folder, migrated=True)
    with bench.floor(f"floor-{engine}", floor_url) as floor, bench.gateway(f"gateway-{engine}", url) as gateway:
        async with sending(floor.address, FLOOR) as pay, sending(gateway.address, requests.CREATE) as create:
            request = requests.create(FAST_ACCOUNT)
            response = (await created(create, 1))[0]

            async def echo() -> None:
                await pay(request)

            await run_round(echo, callers=RATIO_CALLERS, seconds=WARM_S, meter=meter_of(engine, floor))
            await warmed(create, gateway, engine, url)
            subjects = (
                Subject("floor", echo, meter_of(engine, floor)),
                Subject("CreatePayment", creating(create), meter_of(engine, gateway)),
            )
            lines: list[Line] = []
            ratio = 0.0
            for callers in effort.callers:
                seen = await interleaved(subjects, callers=callers, rounds=effort.rounds, seconds=effort.round_s)
                lines += [Line.of(engine, name, callers, rounds) for name, rounds in seen.items()]
                if callers == RATIO_CALLERS:
                    ratio = paired_ratio(seen["CreatePayment"], seen["floor"])
            lines += await _measure_reading(gateway, create, engine, effort)
    return Payments(lines, ratio, len(request), len(response))


async def _measure_reading(gateway: Server, create: Send, engine: Engine, effort: Effort) -> list[Line]:
    ids = [requests.created_payment(reply).payment_id for reply in await created(create, PAYMENTS_READ)]
    turn = itertools.cycle([requests.get(payment_id) for payment_id in ids])
    lines = []
    async with sending(gateway.address, requests.GET) as send:

        async def get() -> None:
            await send(next(turn))

        for callers in effort.callers:
            rounds: list[Round] = [
                await run_round(get, callers=callers, seconds=effort.side_round_s, meter=meter_of(engine, gateway))
                for _ in range(effort.side_rounds)
            ]
            lines.append(Line.of(engine, "GetPayment", callers, rounds))
    return lines
