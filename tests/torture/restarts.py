"""PostgreSQL restarted every five seconds for a stretch of the run: how soon a payment is answered again each time."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from functools import partial

from obol.client import GatewayError
from obol.v1 import payment_gateway_pb2 as paying
from obol.v1.money_pb2 import Money
from tests.readiness import READY_S_MAX, Readiness, readiness, write_to_postgresql
from tests.torture.billing import Billing
from tests.torture.database import restart

EVERY_S = 5.0
KILLS_EACH = 25
RESTARTS_MAX = 24
"""Two minutes of it in a long run, and one in `make test`, where `tests/faults` has three of its own."""
GIVEN_UP_S = 30.0


async def restart_every(billing: Billing, url: str, kills: int, seed: int) -> list[Readiness]:
    """Restart the server of `url` for a stretch that grows with the run; from each start of it to an answer."""
    chance, back = random.Random(f"{seed}/restarts"), []
    loop = asyncio.get_running_loop()
    for number in range(max(1, min(RESTARTS_MAX, kills // KILLS_EACH))):
        began = loop.time()
        await asyncio.to_thread(restart, chance.choice(("immediate", "immediate", "fast")))
        paid = partial(_paid, billing, f"{seed}-restart-{number}")
        back.append(await readiness(paid, partial(write_to_postgresql, url)))
        await asyncio.sleep(max(0.0, began + EVERY_S - loop.time()))
    return back


def judge_restarts(back: Sequence[Readiness]) -> Iterator[str]:
    """Ready again within five seconds, each time; of our own alone in a short run, as a part of `make test`."""
    for number, each in enumerate(back):
        if (each.elapsed_s if len(back) > 1 else each.own_s) > READY_S_MAX:
            yield f"restart {number}: until a payment was answered again, {each}"


async def _paid(billing: Billing, key: str) -> None:
    """A payment under `key`, asked for until there is an answer."""
    request = paying.CreatePaymentRequest(
        idempotency_key=key,
        amount=Money(amount_minor=700, currency_code=billing.provider.tortured.currencies[0]),
        payment_method=billing.provider.tortured.approves,
        order_reference=f"order-{key}",
        description=key,
    )
    intent = billing.journal.intend("CreatePayment", request)
    async with asyncio.timeout(GIVEN_UP_S):
        while True:
            try:
                await billing.ask(intent, timeout_s=2.0)
                return
            except GatewayError:
                await asyncio.sleep(0.05)
