"""Access tokens: one request for all who need one, a refused one replaced once, and nothing sent too late for it."""

import asyncio
import json
from types import MappingProxyType

from gateway.domain.providers import Answered, Found, NotExecuted, NotSent, Unreadable
from providers.http import WireLimits
from providers.paypal.adapter import PayPalAdapter
from providers.refusals import Refusal, refusal_of
from providers.retry import Pace
from providers.secret import Secret
from providers.settings import ProviderAccountSettings
from tests.conformance.paypal_driver import paypal
from tests.conformance.rig import Rig
from tests.unit.providers.misbehaving import Behaviour, answer, misbehaving
from tests.unit.providers.paypal_objects import create, error, order

TOKEN = {"access_token": "token-1", "token_type": "Bearer", "expires_in": 32_400}
TIMEOUT_S = 5.0


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    @property
    def pace(self) -> Pace:
        return Pace(lambda: self.now_s, asyncio.sleep, lambda low, high: low)


def adapter(url: str, clock: Clock) -> PayPalAdapter:
    """An adapter by this clock."""
    settings = ProviderAccountSettings(
        "paypal-main",
        "paypal",
        url,
        Secret("client-secret"),
        wire=WireLimits(),
        options=MappingProxyType({"client_id": "client"}),
    )
    return PayPalAdapter(settings, unmapped=lambda kind, value: None, pace=clock.pace)


async def test_many_calls_need_one_token() -> None:
    """Twenty at a time ask once; after PayPal has ended the token, twenty more ask once again, and all are answered."""
    async with paypal() as driver:
        subject = driver.adapter()
        rig = Rig(driver, subject)
        for issued in (1, 2):
            prepared = [rig.prepare_create()[1] for _ in range(20)]
            outcomes = await asyncio.gather(*(rig.execute(each) for each in prepared))
            assert all(isinstance(each, Answered) for each in outcomes)
            assert (await driver.control("GET", "state"))["tokens_issued"] == issued
            await driver.control("POST", "tokens/revoke")
        assert len(await driver.effects()) == 40
        await subject.close()


async def test_a_read_replaces_a_token_too() -> None:
    """A GET whose token has ended is asked again with a new one."""
    async with paypal() as driver:
        subject = driver.adapter()
        rig = Rig(driver, subject)
        _, snapshot = await rig.created()
        await driver.control("POST", "tokens/revoke")
        assert isinstance(await subject.fetch(snapshot.provider_payment_id, timeout_s=TIMEOUT_S), Found)
        await subject.close()


async def test_a_token_that_ends_soon_is_replaced_before_it_does() -> None:
    """By its own life less a margin: no call has to be refused first."""
    clock, writes = Clock(), 0

    def told(request: bytes) -> bytes:
        nonlocal writes
        if b"/v1/oauth2/token" in request:
            return answer(json.dumps({**TOKEN, "access_token": f"token-{clock.now_s:.0f}"}).encode())
        writes += 1
        assert f"Bearer token-{clock.now_s:.0f}".encode() in request
        return answer(json.dumps(order("PAYER_ACTION_REQUIRED")).encode(), 201)

    async with misbehaving(by_request(told)) as server:
        subject = adapter(server.base_url, clock)
        for _ in range(2):
            outcome = await subject.execute(create(), send_before=clock.now_s + 10, timeout_s=TIMEOUT_S)
            assert isinstance(outcome, Answered)
            clock.now_s += 32_400 - 59
        assert writes == 2
        await subject.close()


async def test_nothing_is_sent_with_a_new_token_after_the_last_moment() -> None:
    """The 401 comes when sending is not allowed any more: not executed, and the request did not go out again."""
    clock, writes = Clock(), 0

    def told(request: bytes) -> bytes:
        nonlocal writes
        if b"/v1/oauth2/token" in request:
            return answer(json.dumps(TOKEN).encode())
        writes += 1
        clock.now_s += 20
        return answer(json.dumps(error("AUTHENTICATION_FAILURE")).encode(), 401)

    async with misbehaving(by_request(told)) as server:
        subject = adapter(server.base_url, clock)
        outcome = await subject.execute(create(), send_before=clock.now_s + 10, timeout_s=60.0)
        assert isinstance(outcome, NotExecuted)
        assert writes == 1
        await subject.close()


async def test_a_401_is_asked_again_once() -> None:
    """Two refusals in a row are an answer: not executed, with the credentials to blame."""
    clock, writes = Clock(), 0

    def told(request: bytes) -> bytes:
        nonlocal writes
        if b"/v1/oauth2/token" in request:
            return answer(json.dumps(TOKEN).encode())
        writes += 1
        return answer(json.dumps(error("AUTHENTICATION_FAILURE")).encode(), 401)

    async with misbehaving(by_request(told)) as server:
        subject = adapter(server.base_url, clock)
        outcome = await subject.execute(create(), send_before=clock.now_s + 10, timeout_s=TIMEOUT_S)
        assert isinstance(outcome, NotExecuted)
        assert refusal_of(outcome) is Refusal.CREDENTIALS
        assert writes == 2
        await subject.close()


async def test_without_a_token_nothing_was_sent() -> None:
    """The token's own failures: refused credentials, a limit, an error, nonsense. Never unknown, never a decline."""
    cases = [
        (answer(b"{}", 401), NotExecuted),
        (answer(b"{}", 429, "Retry-After: 7"), NotExecuted),
        (answer(b"{}", 500), NotSent),
        (answer(b"not json", 200), NotSent),
        (answer(b'{"access_token": 1, "expires_in": 10}', 200), NotSent),
        (answer(b'{"access_token": "x", "expires_in": "soon"}', 200), NotSent),
    ]
    for told, kind in cases:
        clock = Clock()
        async with misbehaving(by_request(lambda request, told=told: told)) as server:
            subject = adapter(server.base_url, clock)
            outcome = await subject.execute(create(), send_before=clock.now_s + 10, timeout_s=TIMEOUT_S)
            assert type(outcome) is kind, (told, outcome)
            assert isinstance(await subject.fetch("5O190127TN364715T", timeout_s=TIMEOUT_S), Unreadable)
            if isinstance(outcome, NotExecuted) and outcome.retry_after_s:
                assert refusal_of(outcome) is Refusal.RATE_LIMITED
            await subject.close()


def by_request(told: "object") -> Behaviour:
    """Each request of a connection is answered by what it holds."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(65_536):
            writer.write(told(request))  # type: ignore[operator]  # a function of the request's bytes
            await writer.drain()

    return behave
