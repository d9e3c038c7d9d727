"""Everything that a provider can do wrong, before the effect and after it, through a whole gateway."""

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from gateway.app.clock import jitter
from gateway.app.settings import EngineSettings
from gateway.verification import verify
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2
from simulators.faults import FAULTS
from tests.databases import postgresql_url, sqlite_url
from tests.integration.house import QUICK, Command, House, State, eventually, money, open_house, refused

pytestmark = pytest.mark.slow

MEMORY_KB_MAX = 96 * 1024
"""What 48 faulty exchanges, endless bodies among them, may add to a gateway and a sandbox in one process."""
EVERY = tuple(FAULTS)
BRIEF = replace(QUICK, provider_timeout_s=2.0, lease_s=8.0)
"""Silence is waited out, several times in a row."""
FEW = ("lost_before", "stall", "http_500_after", "lost_after", "truncated", "unknown_status")
"""For the second database, which sees no more of a fault than what the gateway made of it: one of each kind of end."""
MANUAL = payment_pb2.CAPTURE_METHOD_MANUAL
UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED)
DECIDED = (Command.COMMAND_STATE_SUCCEEDED, Command.COMMAND_STATE_UNKNOWN)


@asynccontextmanager
async def house_whose_breaker_opens(database_url: str, folder: Path, open_s: float) -> AsyncIterator[House]:
    """A gateway whose breaker opens after three failures; healed, it ends with true books."""
    async with open_house(database_url, folder, engine=BRIEF, failures_max=3, open_s=open_s) as opened:
        yield opened
    report = await verify(database_url, effect_log=opened.sandbox_dir / "effects.jsonl", healed=True)
    assert report.violations == []
    assert report.unresolved == 0


async def insisted(call: Callable[[], Awaitable[Any]]) -> Any:
    """The reply to a call that is repeated, with its key, while it provably was not sent or somebody is at it."""
    for _ in range(200):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in UNAVAILABLE:
                raise
            await asyncio.sleep(0.05)
    raise AssertionError("never admitted")


async def heal(house: House) -> None:
    """No more faults; what stalls goes on."""
    async with aiohttp.ClientSession() as session, session.delete(f"{house.sandbox_url}/control/faults") as answer:
        assert answer.status < 300


async def every_fault(
    house: House, verb: str, faults: Sequence[str], calls: Sequence[Callable[[], Awaitable[Any]]]
) -> list[Any]:
    """The replies to calls that meet one of the faults each: none is a false end; then the provider is well again."""
    await house.control("/control/faults", {"next": [{"fault": name, "match": verb} for name in faults]})
    replies = await asyncio.gather(*map(insisted, calls))
    assert {reply.payment.latest_command.state for reply in replies} <= set(DECIDED)
    await heal(house)
    return replies


async def all_until(house: House, ids: Sequence[str], good: Callable[[Any], bool]) -> None:
    """Every payment has come to be `good`."""
    await asyncio.gather(*(eventually(partial(house.get, each), good) for each in ids))


@contextmanager
def little_memory() -> Iterator[None]:
    """Whatever comes over the wire, the process holds little of it."""
    memory_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kb < MEMORY_KB_MAX


@pytest.mark.parametrize(("engine", "faults"), [("sqlite", EVERY), ("postgresql", FEW)], ids=["sqlite", "postgresql"])
async def test_every_fault_of_what_takes_money_ends_as_the_books_have_it(
    engine: str, faults: tuple[str, ...], tmp_path: Path
) -> None:
    """No answer is a false end; healed, each create, capture and refund took effect once; memory stays bounded."""
    url = sqlite_url(tmp_path) if engine == "sqlite" else postgresql_url()
    async with house_whose_breaker_opens(url, tmp_path, 0.1) as house:
        with little_memory():
            await takes_money(house, faults)


@pytest.mark.parametrize(("engine", "faults"), [("sqlite", EVERY), ("postgresql", FEW)], ids=["sqlite", "postgresql"])
async def test_every_fault_of_what_holds_money_ends_as_the_books_have_it(
    engine: str, faults: tuple[str, ...], tmp_path: Path
) -> None:
    """No answer is a false end; healed, each confirm, adjustment and cancel took effect once; memory stays bounded."""
    url = sqlite_url(tmp_path) if engine == "sqlite" else postgresql_url()
    async with house_whose_breaker_opens(url, tmp_path, 0.1) as house:
        with little_memory():
            await holds_money(house, faults)


async def takes_money(house: House, faults: Sequence[str]) -> None:
    """Create, capture and refund a payment for each fault, each write once with it."""
    creates = [partial(create, house, f"c-{name}", capture_method=MANUAL) for name in faults]
    ids = [reply.payment.payment_id for reply in await every_fault(house, "payments", faults, creates)]
    await all_until(house, ids, lambda payment: payment.state == State.PAYMENT_STATE_AUTHORIZED)
    await every_fault(house, "capture", faults, [partial(capture, house, each) for each in ids])
    await all_until(house, ids, lambda payment: payment.state == State.PAYMENT_STATE_CAPTURED)
    await every_fault(house, "refunds", faults, [partial(refund, house, each) for each in ids])
    await all_until(house, ids, lambda payment: payment.state == State.PAYMENT_STATE_PARTIALLY_REFUNDED)
    for kind in ("capture", "refund"):
        assert len(house.effects(kind=kind)) == len(faults)


async def holds_money(house: House, faults: Sequence[str]) -> None:
    """Confirm a payment for each fault, raise what it holds, and cancel it, each write once with the fault."""
    later = {"capture_method": MANUAL, "confirmation_method": payment_pb2.CONFIRMATION_METHOD_MANUAL}
    ids = [(await create(house, f"c-{name}", **later)).payment.payment_id for name in faults]
    await every_fault(house, "confirm", faults, [partial(confirm, house, each) for each in ids])
    await all_until(house, ids, lambda payment: payment.state == State.PAYMENT_STATE_AUTHORIZED)
    await every_fault(house, "adjust", faults, [partial(adjust, house, each) for each in ids])
    await all_until(house, ids, lambda payment: payment.money.authorized.amount_minor == 1_500)
    await every_fault(house, "cancel", faults, [partial(cancel, house, each) for each in ids])
    await all_until(house, ids, lambda payment: payment.state == State.PAYMENT_STATE_CANCELLED)
    assert len(house.effects(kind="authorization")) == 2 * len(faults)
    assert len(house.effects(kind="void")) == len(faults)


async def test_an_open_breaker_fails_nothing_that_was_sent(tmp_path: Path) -> None:
    """A provider goes silent: what was sent is UNKNOWN while the breaker is open, new wishes are not sent, all heal."""
    async with house_whose_breaker_opens(postgresql_url(), tmp_path, 6.0) as house:
        await meets_silence(house)


async def meets_silence(house: House) -> None:
    """Thirty wishes at once, a breaker that opens, and what comes of them."""
    await house.control("/control/faults", {"rates": {"lost_after": 0.5, "reset_before": 0.5}, "seed": 3})
    outcomes = await asyncio.gather(*(house.create(f"k{n}") for n in range(30)), return_exceptions=True)
    sent = [each for each in outcomes if not isinstance(each, BaseException)]
    assert sent
    for _ in range(5):
        late = await refused(house.create("late"))
        assert (late.code, late.reason, late.sent) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE", "NO")
        states = {(await house.get(payment.payment_id)).latest_command.state for payment in sent}
        assert states <= {Command.COMMAND_STATE_UNKNOWN, Command.COMMAND_STATE_SUCCEEDED}
        await asyncio.sleep(0.05)
    await heal(house)
    for payment in sent:
        await house.until(payment.payment_id, State.PAYMENT_STATE_CAPTURED)
    await insisted(lambda: house.create("late"))
    assert len(house.effects(kind="capture")) == len(sent) + 1


def test_what_heals_is_looked_at_within_a_minute() -> None:
    """By default no pause between two looks is longer than a minute, nor is a refused one's."""
    settings, breaker_s = EngineSettings(), 15.0
    assert jitter(settings.unknown_check_s_max) <= settings.unknown_check_s_max
    assert settings.unknown_check_s_max + settings.recovery_poll_s < 60.0
    # A look that an open breaker refused comes again when that lets somebody through (see tests/crash).
    assert breaker_s + settings.recovery_poll_s < settings.unknown_check_s_max
    assert QUICK.unknown_check_s_max < settings.unknown_check_s_max  # the tests above wait on conditions, scaled


async def create(house: House, key: str, **asked: Any) -> Any:
    request = pb.CreatePaymentRequest(idempotency_key=key, amount=money(1_000), payment_method="card_ok", **asked)
    return await house.payments.CreatePayment(request, metadata=house.metadata, timeout=10)


async def confirm(house: House, payment_id: str) -> Any:
    request = pb.ConfirmPaymentRequest(idempotency_key=f"confirm-{payment_id}", payment_id=payment_id)
    return await house.payments.ConfirmPayment(request, metadata=house.metadata, timeout=10)


async def capture(house: House, payment_id: str) -> Any:
    request = pb.CapturePaymentRequest(idempotency_key=f"capture-{payment_id}", payment_id=payment_id)
    return await house.payments.CapturePayment(request, metadata=house.metadata, timeout=10)


async def adjust(house: House, payment_id: str) -> Any:
    key = f"adjust-{payment_id}"
    request = pb.AdjustAuthorizationRequest(idempotency_key=key, payment_id=payment_id, amount=money(1_500))
    return await house.payments.AdjustAuthorization(request, metadata=house.metadata, timeout=10)


async def cancel(house: House, payment_id: str) -> Any:
    request = pb.CancelPaymentRequest(idempotency_key=f"cancel-{payment_id}", payment_id=payment_id)
    return await house.payments.CancelPayment(request, metadata=house.metadata, timeout=10)


async def refund(house: House, payment_id: str) -> Any:
    request = pb.RefundPaymentRequest(idempotency_key=f"r-{payment_id}", payment_id=payment_id, amount=money(400))
    return await house.payments.RefundPayment(request, metadata=house.metadata, timeout=10)
