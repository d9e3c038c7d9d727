"""Billing under torture: seeded clients that want payments, ask twice, walk away, and remember everything."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from obol.client import AioPaymentGatewayClient, CallRecord, Conflict, GatewayError, NotFound, Precondition
from obol.v1 import payment_gateway_pb2 as paying
from obol.v1.money_pb2 import Money
from obol.v1.payment_pb2 import CaptureMethod, ConfirmationMethod, Payment, PaymentState
from tests.torture.intents import FINAL, Intent, Journal
from tests.torture.provider import Provider
from tests.torture.site import ROUTED_COUNTRY

TIMEOUT_S = 4.0
TRIES_MAX = 30
SHORT_DEADLINE_SHARE = 0.10
WALK_AWAY_SHARE = 0.06
TOGETHER_SHARE = 0.2
ROUTED_SHARE = 0.3
ADJUSTED_SHARE = 0.4

METHODS = {
    "CreatePayment": "create_payment",
    "ConfirmPayment": "confirm_payment",
    "CapturePayment": "capture_payment",
    "AdjustAuthorization": "adjust_authorization",
    "CancelPayment": "cancel_payment",
    "RefundPayment": "refund_payment",
}


class Billing:
    """All clients of one run. `replied` is called at each reply, with the RPC."""

    def __init__(
        self,
        clients: Sequence[AioPaymentGatewayClient],
        provider: Provider,
        journal: Journal,
        seed: int,
        replied: Callable[[], None],
    ) -> None:
        self.stopping = False
        self.scenarios = 0
        self._clients = clients
        self._provider = provider
        self._journal = journal
        self._seed = seed
        self._replied = replied

    async def client(self, number: int, pause_s: float) -> None:
        """One client: scenario after scenario until `stopping`."""
        chance = random.Random(f"{self._seed}/client/{number}")
        while not self.stopping:
            self.scenarios += 1
            story = _Story(self, chance, f"{self._seed}-{number}-{self.scenarios}")
            await story.tell()
            await asyncio.sleep(pause_s * 2 * chance.random())

    async def ask(self, intent: Intent, *, timeout_s: float = TIMEOUT_S, chance: random.Random | None = None) -> int:
        """One call; the command's state. Raises GatewayError."""
        client = (chance or random).choice(self._clients)
        method: Callable[..., Awaitable[Any]] = getattr(client, METHODS[intent.rpc])
        known_before, record = intent.final, CallRecord()
        intent.calls += 1
        try:
            reply = await method(intent.request, timeout_s=timeout_s, record=record)
        except GatewayError as error:
            self._journal.refused(intent, error, known_before)
            raise
        except asyncio.CancelledError:
            self._journal.unanswered(intent)
            raise
        self._replied()
        return self._journal.replied(intent, reply, known_before)

    async def payment(self, payment_id: str) -> Payment | None:
        """The payment as it stands, if anybody says."""
        try:
            asked = paying.GetPaymentRequest(payment_id=payment_id)
            return (await random.choice(self._clients).get_payment(asked, timeout_s=2.0)).payment
        except GatewayError as error:
            self._journal.read_failed("GetPayment", error)
            return None

    async def sync(self, payment_id: str) -> None:
        """Ask the gateway to look."""
        try:
            await random.choice(self._clients).sync_payment(
                paying.SyncPaymentRequest(payment_id=payment_id), timeout_s=3.0
            )
        except GatewayError as error:
            self._journal.read_failed("Sync", error)

    @property
    def provider(self) -> Provider:
        """Where customers and the dashboard are."""
        return self._provider

    @property
    def journal(self) -> Journal:
        """What is remembered."""
        return self._journal


class _Story:
    """One payment's life, as chance has it."""

    def __init__(self, billing: Billing, chance: random.Random, name: str) -> None:
        self._billing = billing
        self._chance = chance
        self._name = name
        self._steps = 0
        self._amount = chance.randrange(200, 100_000)
        self._currency = chance.choice(billing.provider.tortured.currencies)

    async def tell(self) -> None:
        """Create, then whatever suits what came of it."""
        chance = self._chance
        manual = chance.random() < 0.4
        tortured = self._billing.provider.tortured
        confirming = bool(tortured.again) and chance.random() < 0.2
        token = chance.choices(list(tortured.tokens), list(tortured.tokens.values()))[0]
        if chance.random() < 0.5:
            token = tortured.approves
        create = self._intend(
            "CreatePayment",
            paying.CreatePaymentRequest(
                amount=self._money(self._amount),
                payment_method=token,
                order_reference=f"order-{self._name}",
                order_reference_unique=chance.random() < 0.3,
                payer_country=ROUTED_COUNTRY if tortured.other and chance.random() < ROUTED_SHARE else "DE",
                capture_method=CaptureMethod.CAPTURE_METHOD_MANUAL
                if manual
                else CaptureMethod.CAPTURE_METHOD_AUTOMATIC,
                confirmation_method=ConfirmationMethod.CONFIRMATION_METHOD_MANUAL
                if confirming
                else ConfirmationMethod.CONFIRMATION_METHOD_AUTOMATIC,
            ),
        )
        await self._settle(create)
        payment = await self._found(create)
        if payment is None:
            return
        if confirming:
            await self._confirm(payment)
        if payment.state == PaymentState.PAYMENT_STATE_REQUIRES_ACTION:
            await self._act(payment)
        if chance.random() < 0.2:
            await self._billing.sync(payment.payment_id)
        if chance.random() < 0.05:
            await self._reuse(create)
        if manual and tortured.adjusts and chance.random() < ADJUSTED_SHARE:
            await self._adjust(payment)
        if manual:
            await self._capture(payment)
        if chance.random() < 0.5:
            await self._refund(payment)

    async def _confirm(self, payment: Payment) -> None:
        tokens = self._billing.provider.tortured.again
        confirms = [
            self._intend(
                "ConfirmPayment",
                paying.ConfirmPaymentRequest(payment_id=payment.payment_id, payment_method=self._chance.choice(tokens)),
            )
            for _ in range(self._chance.choice((1, 1, 2)))
        ]
        await asyncio.gather(*map(self._settle, confirms))

    async def _act(self, payment: Payment) -> None:
        tortured = self._billing.provider.tortured
        said = self._chance.choice(tortured.says)
        acting = self._billing.provider.act(payment.provider_reference.provider_payment_id, said)
        if tortured.again and self._chance.random() < 0.3:
            again = paying.ConfirmPaymentRequest(payment_id=payment.payment_id, payment_method=tortured.approves)
            await asyncio.gather(acting, self._settle(self._intend("ConfirmPayment", again)))
        else:
            await acting

    async def _adjust(self, payment: Payment) -> None:
        """Hold more, or hold it anew: one after another, at once, or against a cancel."""
        chance = self._chance
        wishes: list[Intent] = []
        for part in range(chance.choice((1, 1, 2))):
            request = paying.AdjustAuthorizationRequest(payment_id=payment.payment_id)
            if chance.random() < 0.7:
                request.amount.CopyFrom(self._money(self._amount * (11 + part) // 10))
            wishes.append(self._intend("AdjustAuthorization", request))
        if chance.random() < 0.1:
            wishes.append(self._intend("CancelPayment", paying.CancelPaymentRequest(payment_id=payment.payment_id)))
        await asyncio.gather(*map(self._settle, wishes))

    async def _capture(self, payment: Payment) -> None:
        chance = self._chance
        wishes: list[Intent] = []
        for part in range(chance.choice((1, 2, 2))):
            request = paying.CapturePaymentRequest(payment_id=payment.payment_id)
            if chance.random() < 0.6:
                request.amount.CopyFrom(self._money(max(1, self._amount // 3)))
                request.final_capture = part == 1
            wishes.append(self._intend("CapturePayment", request))
        if chance.random() < 0.3:
            cancel = paying.CancelPaymentRequest(payment_id=payment.payment_id, reason="changed their mind")
            wishes.append(self._intend("CancelPayment", cancel))
        if chance.random() < 0.5:
            await asyncio.gather(*map(self._settle, wishes))
        else:
            for wish in wishes:
                await self._settle(wish)

    async def _refund(self, payment: Payment) -> None:
        chance = self._chance
        wishes = []
        for _ in range(chance.choice((1, 2, 3))):
            request = paying.RefundPaymentRequest(payment_id=payment.payment_id)
            if chance.random() < 0.8:
                request.amount.CopyFrom(self._money(max(1, self._amount * chance.choice((1, 3, 6)) // 10)))
            wish = self._intend("RefundPayment", request)
            request.reason = wish.key
            wishes.append(wish)
        provider_payment_id = payment.provider_reference.provider_payment_id
        if provider_payment_id and chance.random() < 0.1:
            step = chance.choice(("dispute", "refund"))
            body = {"amount": max(1, self._amount // 4)}
            await asyncio.gather(
                self._billing.provider.dashboard(provider_payment_id, step, body), *map(self._settle, wishes)
            )
        else:
            await asyncio.gather(*map(self._settle, wishes))

    async def _reuse(self, create: Intent) -> None:
        """The same key for another wish must be refused."""
        other = paying.CreatePaymentRequest()
        other.ParseFromString(create.request.SerializeToString())
        other.amount.amount_minor += 1
        impostor = Intent(create.rpc, other)
        try:
            await self._billing.ask(impostor)
            self._billing.journal.violations.append(f"I6 {create.key}: another request with this key got a reply")
        except (GatewayError, asyncio.CancelledError):
            pass

    async def _settle(self, intent: Intent) -> None:
        """Ask until there is an answer that will not change, or asking is over."""
        if self._chance.random() < TOGETHER_SHARE:
            callers = self._chance.choice((2, 2, 3))
            await asyncio.gather(*(self._until_answered(intent) for _ in range(callers)))
        else:
            await self._until_answered(intent)

    async def _until_answered(self, intent: Intent) -> None:
        chance = self._chance
        for _ in range(TRIES_MAX):
            drawn = chance.random()
            try:
                if drawn < WALK_AWAY_SHARE:
                    calling = asyncio.ensure_future(self._billing.ask(intent, chance=chance))
                    await asyncio.wait((calling,), timeout=chance.random() * 0.3)
                    calling.cancel()
                    await asyncio.gather(calling, return_exceptions=True)
                    if chance.random() < 0.3:
                        return
                    continue
                short = drawn < WALK_AWAY_SHARE + SHORT_DEADLINE_SHARE
                timeout_s = 0.2 + chance.random() * 0.5 if short else TIMEOUT_S
                if await self._billing.ask(intent, timeout_s=timeout_s, chance=chance) in FINAL:
                    return
            except (Conflict, NotFound, Precondition):
                return
            except GatewayError as error:
                if not error.safe_to_retry:
                    return
            await asyncio.sleep(0.03 + chance.random() * 0.25)
            if self._billing.stopping and chance.random() < 0.5:
                return

    async def _found(self, create: Intent) -> Payment | None:
        """The payment that the create made; None where nobody has said yet."""
        if create.final is not None:
            reply = paying.CreatePaymentResponse.FromString(create.final)
            return await self._billing.payment(reply.payment.payment_id)
        try:
            asked = paying.GetPaymentRequest(order_reference=f"order-{self._name}")
            client = self._chance.choice(self._billing._clients)
            return (await client.get_payment(asked, timeout_s=2.0)).payment
        except GatewayError as error:
            self._billing.journal.read_failed("GetPayment", error)
            return None

    def _intend(self, rpc: str, request: Message) -> Intent:
        self._steps += 1
        key = f"{self._name}-{self._steps}"
        setattr(request, "idempotency_key", key)  # noqa: B010  a Message has it by its descriptor alone
        if isinstance(request, paying.CreatePaymentRequest):
            request.description = key
        return self._billing.journal.intend(rpc, request)

    def _money(self, amount_minor: int) -> Money:
        return Money(amount_minor=amount_minor, currency_code=self._currency)
