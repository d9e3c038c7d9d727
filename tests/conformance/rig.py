"""The battery's hands: it asks an adapter for what the engine would, and keeps what it asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from types import MappingProxyType
from typing import Any, NoReturn

import pytest

from gateway.domain.adjusting import Adjusts
from gateway.domain.commands import Caller, PreparedRequest
from gateway.domain.derivation import derive_dispute_state, derive_payment_state, derive_sums
from gateway.domain.movements import Movement, MovementKind
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment, PaymentTerms
from gateway.domain.providers import (
    Answered,
    Cancels,
    Captures,
    Completes,
    Confirms,
    Declined,
    Found,
    ListsEvents,
    ListsPayments,
    OperationReference,
    Outcome,
    ProviderAdapter,
    ReadsCallbacks,
    Refunds,
    Snapshot,
    TakesPayments,
)
from tests.conformance.driver import Driver, Effect

TIMEOUT_S = 10.0
AMOUNT_MINOR = 12_345


def lacking(adapter: ProviderAdapter, capability: type) -> NoReturn:
    """Skip: the provider cannot do it, and says so by not implementing it."""
    pytest.skip(f"{adapter.capabilities.provider} does not implement {capability.__name__}")


def offered(token: str | None, what: str) -> str:
    """A payment method that the driver has."""
    if token is None:
        pytest.skip(f"this provider has no payment method that {what}")
    return token


class Rig:
    """One adapter before one running provider."""

    def __init__(self, driver: Driver, adapter: ProviderAdapter) -> None:
        self.driver = driver
        self.adapter = adapter
        self._numbers = count(1)
        # A provider of its own remembers keys and references of earlier runs.
        self._run = f"{run}_" if (run := getattr(driver, "run", "")) else ""
        self.used: set[str] = set()

    @property
    def takes(self) -> TakesPayments:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("TakesPayments")
        return self.adapter if isinstance(self.adapter, TakesPayments) else lacking(self.adapter, TakesPayments)

    @property
    def confirms(self) -> Confirms:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("Confirms")
        return self.adapter if isinstance(self.adapter, Confirms) else lacking(self.adapter, Confirms)

    @property
    def completes(self) -> Completes:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("Completes")
        return self.adapter if isinstance(self.adapter, Completes) else lacking(self.adapter, Completes)

    @property
    def captures(self) -> Captures:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("Captures")
        return self.adapter if isinstance(self.adapter, Captures) else lacking(self.adapter, Captures)

    @property
    def adjusts(self) -> Adjusts:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("Adjusts")
        able = self.adapter.capabilities.adjustment
        return self.adapter if able and isinstance(self.adapter, Adjusts) else lacking(self.adapter, Adjusts)

    @property
    def cancels(self) -> Cancels:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("Cancels")
        return self.adapter if isinstance(self.adapter, Cancels) else lacking(self.adapter, Cancels)

    @property
    def refunds(self) -> Refunds:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("Refunds")
        return self.adapter if isinstance(self.adapter, Refunds) else lacking(self.adapter, Refunds)

    @property
    def reads(self) -> ReadsCallbacks:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("ReadsCallbacks")
        return self.adapter if isinstance(self.adapter, ReadsCallbacks) else lacking(self.adapter, ReadsCallbacks)

    @property
    def events(self) -> ListsEvents:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("ListsEvents")
        return self.adapter if isinstance(self.adapter, ListsEvents) else lacking(self.adapter, ListsEvents)

    @property
    def payments(self) -> ListsPayments:
        """The adapter as one that has this capability; without it the test is skipped."""
        self.used.add("ListsPayments")
        return self.adapter if isinstance(self.adapter, ListsPayments) else lacking(self.adapter, ListsPayments)

    def risk(self, token: str | None) -> str:
        """A payment method whose risk the provider tells; where it tells none the test is skipped."""
        self.used.add("Risk")
        if token is None:
            pytest.skip(f"{self.driver.provider} does not implement a risk assessment that it tells")
        return token

    @property
    def finds(self) -> bool:
        """Whether the provider can be asked for an object by our reference at all."""
        return self.adapter.capabilities.finds_by_reference

    def find_by_reference(self) -> None:
        """Skip where the provider cannot."""
        if not self.finds:
            pytest.skip(f"{self.driver.provider} finds no object by our reference, and says so")
        if not getattr(self.driver, "finds_at_once", True):
            pytest.skip(f"{self.driver.provider} finds an object by our reference hours later only")

    def reference(self, payment_id: str = "") -> OperationReference:
        """A new operation, of a new payment unless one is named."""
        number = f"{self._run}{next(self._numbers)}"
        caller = Caller("tenant-a", "org-a", "billing", f"corr-{number}")
        return OperationReference(
            f"op_{number}", f"cmd_{number}", payment_id or f"pay_{number}", caller, f"key-{number}"
        )

    def fresh(self) -> None:
        """Skip where the provider's books hold more than this test made."""
        if not getattr(self.driver, "fresh", True):
            pytest.skip("the provider's books hold more than this test made")

    def terms(self, **changed: Any) -> PaymentTerms:
        """Terms of a payment that is captured at once."""
        told: dict[str, Any] = {
            "amount_minor": AMOUNT_MINOR,
            "currency": self.driver.currency,
            "capture_method": CaptureMethod.AUTOMATIC,
            "confirmation_method": ConfirmationMethod.AUTOMATIC,
            "payment_method": self.driver.methods.approves,
            "customer_reference": "cus_1",
            "description": "Three oboli",
            "statement_descriptor": "OBOL",
            "return_url": "https://shop.example/back",
            "metadata": MappingProxyType({"basket": "42"}),
            "order_reference": "order-1",
            "order_reference_unique": False,
            "connected_account": "",
            "expire_time_us": None,
        }
        return PaymentTerms(**{**told, **changed})

    def prepare_create(self, **changed: Any) -> tuple[OperationReference, PreparedRequest]:
        """A create with these terms."""
        reference = self.reference()
        return reference, self.takes.prepare_create(reference, self.terms(**changed))

    async def execute(self, prepared: PreparedRequest, *, timeout_s: float = TIMEOUT_S) -> Outcome:
        """Send it, as the engine would."""
        send_before = asyncio.get_running_loop().time() + TIMEOUT_S
        return await self.adapter.execute(prepared, send_before=send_before, timeout_s=timeout_s)

    async def created(self, **changed: Any) -> tuple[OperationReference, Snapshot]:
        """A payment that the provider answered."""
        reference, prepared = self.prepare_create(**changed)
        return reference, answered(await self.execute(prepared)).snapshot

    async def authorized(self, **changed: Any) -> Payment:
        """A payment whose money is held."""
        _, snapshot = await self.created(capture_method=CaptureMethod.MANUAL, **changed)
        return self.payment(snapshot)

    async def captured(self, **changed: Any) -> Payment:
        """A payment whose money was taken."""
        _, snapshot = await self.created(**changed)
        return self.payment(snapshot)

    async def capture(
        self, payment: Payment, amount_minor: int, *, final: bool = True
    ) -> tuple[OperationReference, Outcome]:
        reference = self.reference(payment.payment_id)
        prepared = self.captures.prepare_capture(reference, payment, amount_minor=amount_minor, final=final)
        return reference, await self.execute(prepared)

    async def adjust(self, payment: Payment, total_minor: int) -> tuple[OperationReference, Outcome]:
        reference = self.reference(payment.payment_id)
        prepared = self.adjusts.prepare_adjust(reference, payment, total_minor=total_minor)
        return reference, await self.execute(prepared)

    async def refund(self, payment: Payment, amount_minor: int) -> tuple[OperationReference, Outcome]:
        reference = self.reference(payment.payment_id)
        prepared = self.refunds.prepare_refund(reference, payment, amount_minor=amount_minor, reason="requested")
        return reference, await self.execute(prepared)

    def payment(self, snapshot: Snapshot) -> Payment:
        """The payment as the engine would have it after this snapshot."""
        return Payment(
            payment_id=snapshot.payment_id,
            tenant_id="tenant-a",
            organization_id="org-a",
            correlation_id="corr",
            terms=self.terms(),
            provider=self.driver.provider,
            account_id=snapshot.account_id,
            facts=snapshot.facts,
            sums=derive_sums(snapshot.facts),
            state=derive_payment_state(snapshot.facts, ()),
            dispute_state=derive_dispute_state(snapshot.facts),
            version=1,
            created_time_us=0,
            updated_time_us=0,
            provider_payment_id=snapshot.provider_payment_id,
        )

    async def completed(self, payment: Payment) -> None:
        """Complete what the payer has approved, where the provider leaves that to us, as the engine would."""
        if isinstance(self.adapter, Completes):
            prepared = self.completes.prepare_complete(self.reference(payment.payment_id), payment)
            answered(await self.execute(prepared))

    async def fetched(self, payment: Payment) -> Payment:
        """The payment as it is at the provider now."""
        assert payment.provider_payment_id is not None
        found = await self.adapter.fetch(payment.provider_payment_id, timeout_s=TIMEOUT_S)
        assert isinstance(found, Found), found
        return replace(self.payment(found.snapshot), next_action=found.snapshot.next_action)

    async def effects_of(self, *references: OperationReference) -> Sequence[Effect]:
        """What took effect of these operations."""
        own = {reference.operation_id for reference in references}
        return [effect for effect in await self.driver.effects() if effect.operation in own]


def answered(outcome: Outcome) -> Answered:
    """The outcome, which is Answered with nothing unmapped."""
    assert isinstance(outcome, Answered), outcome
    assert outcome.snapshot.unmapped == ()
    return outcome


def declined(outcome: Outcome) -> Declined:
    """The outcome, which is Declined."""
    assert isinstance(outcome, Declined), outcome
    return outcome


def movements(payment: Payment | Snapshot, kind: MovementKind) -> list[Movement]:
    """The movements of a kind."""
    return [each for each in payment.facts.movements if each.kind is kind]
