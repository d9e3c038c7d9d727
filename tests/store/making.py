"""Claims, settlements and their parts, as an engine would make them: plain values with fresh ids."""

import time
from dataclasses import replace
from typing import Any

import uuid_utils.compat

from gateway.domain.commands import Caller, Command, CommandKind, Operation, PreparedRequest
from gateway.domain.derivation import MoneySums, derive_payment_state, derive_sums
from gateway.domain.errors import Sent
from gateway.domain.movements import (
    Attempt,
    AttemptStatus,
    Facts,
    Movement,
    MovementKind,
    MovementStatus,
    Origin,
    ProviderObject,
)
from gateway.domain.observations import Observation, ObservationKind, Source
from gateway.domain.payments import CaptureMethod, ConfirmationMethod, Payment, PaymentTerms, Refund
from gateway.domain.resolutions import Approval, Proposal, Resolution
from gateway.domain.states import CommandState, DisputeState, PaymentState
from gateway.domain.storage import (
    AuditRecord,
    Callback,
    Claim,
    Claimed,
    CommandChange,
    Entity,
    OperationChange,
    Settlement,
    Transition,
)

TENANT = "tenant-a"
ACCOUNT = "sandbox-main"
CALLER = Caller(TENANT, "organization-1", "billing", "correlation-1")
CREATED_US = 1_700_000_000_000_000


def fresh(prefix: str) -> str:
    """A prefixed UUIDv7."""
    return f"{prefix}_{uuid_utils.compat.uuid7().hex}"


def payment_id(created_time_us: int) -> str:
    """An id as a payment of that time gets it: the millisecond first, and in order of making within it."""
    return f"pay_{created_time_us // 1_000:012x}7{time.monotonic_ns():019x}"


def terms(**changes: Any) -> PaymentTerms:
    """$100 to be captured at once."""
    base = PaymentTerms(
        amount_minor=10_000,
        currency="USD",
        capture_method=CaptureMethod.AUTOMATIC,
        confirmation_method=ConfirmationMethod.AUTOMATIC,
        payment_method="pm_card",
        customer_reference="customer-1",
        description="an order",
        statement_descriptor="OBOL",
        return_url="https://shop.example/return",
        metadata={"cart": "7"},
        order_reference="",
        order_reference_unique=False,
        connected_account="",
        expire_time_us=None,
    )
    return replace(base, **changes)


def payment(caller: Caller = CALLER, **changes: Any) -> Payment:
    """A payment as its create claims it."""
    base = Payment(
        payment_id=payment_id(changes.get("created_time_us", CREATED_US)),
        tenant_id=caller.tenant_id,
        organization_id=caller.organization_id,
        correlation_id=caller.correlation_id,
        terms=terms(),
        provider="sandbox",
        account_id=ACCOUNT,
        facts=Facts(),
        sums=MoneySums(),
        state=PaymentState.CREATED,
        dispute_state=DisputeState.NONE,
        version=1,
        created_time_us=CREATED_US,
        updated_time_us=CREATED_US,
    )
    return replace(base, **changes)


def command(payment_id: str, kind: CommandKind = CommandKind.CREATE, **changes: Any) -> Command:
    """A command in SENDING."""
    base = Command(
        command_id=fresh("cmd"),
        kind=kind,
        rpc=f"{kind.title()}Payment",
        idempotency_key=fresh("key"),
        request_hash=b"\x00hash\xff" * 4,
        caller=CALLER,
        payment_id=payment_id,
        state=CommandState.SENDING,
        created_time_us=CREATED_US,
    )
    return replace(base, **changes)


def operation(of: Command, **changes: Any) -> Operation:
    """The one operation of a command, before its claim."""
    operation_id = fresh("op")
    base = Operation(
        operation_id=operation_id,
        command_id=of.command_id,
        payment_id=of.payment_id,
        tenant_id=of.caller.tenant_id,
        step=1,
        kind=of.kind,
        provider="sandbox",
        account_id=ACCOUNT,
        amount_minor=10_000,
        currency="USD",
        prepared=PreparedRequest(
            "POST",
            "/v1/payments",
            '{"amount":10000,"note":"µ\\u0000"}',
            f"k-{operation_id}",
            "2026-01",
            86_400,
            {"x": "y"},
        ),
        state=CommandState.SENDING,
        sent=Sent.NO,
        epoch=0,
        claimed_time_us=0,
        lease_until_us=None,
        next_attempt_us=None,
        refund_id=of.refund_id,
    )
    return replace(base, **changes)


def edge(entity: Entity, entity_id: str, before: str, after: str) -> Transition:
    """One edge of a history."""
    return Transition(entity, entity_id, before, after)


def create_claim(of: Payment | None = None, *, caller: Caller = CALLER, key: str = "", **changes: Any) -> Claim:
    """A create of `of`, or of a fresh payment."""
    of = of or payment(caller)
    asked = command(of.payment_id, caller=caller, idempotency_key=key or fresh("key"))
    base = Claim(
        command=asked,
        operation=operation(asked, amount_minor=of.terms.amount_minor),
        transitions=(edge(Entity.PAYMENT, of.payment_id, "", "CREATED"),),
        lease_s=30.0,
        send_window_s=20.0,
        payment=of,
    )
    return replace(base, **changes)


def claim_on(of: Payment, kind: CommandKind, *, amount_minor: int = 0, key: str = "", **changes: Any) -> Claim:
    """A later command on a payment that is there; captures and refunds reserve `amount_minor`."""
    caller = Caller(of.tenant_id, of.organization_id, "billing", of.correlation_id)
    reserves = kind in (CommandKind.CAPTURE, CommandKind.REFUND)
    refund_id = fresh("ref") if kind is CommandKind.REFUND else None
    asked = command(of.payment_id, kind, caller=caller, idempotency_key=key or fresh("key"), refund_id=refund_id)
    base = Claim(
        command=asked,
        operation=operation(
            asked, amount_minor=amount_minor, reserved_minor=amount_minor if reserves else 0, refund_id=refund_id
        ),
        transitions=(edge(Entity.COMMAND, asked.command_id, "", "SENDING"),),
        lease_s=30.0,
        send_window_s=20.0,
        refund=None if refund_id is None else refund(of, refund_id, asked.command_id, amount_minor),
    )
    return replace(base, **changes)


def refund(of: Payment, refund_id: str, command_id: str | None, amount_minor: int, **changes: Any) -> Refund:
    """A refund of ours in SENDING."""
    base = Refund(
        refund_id=refund_id,
        tenant_id=of.tenant_id,
        payment_id=of.payment_id,
        origin=Origin.OBOL if command_id else Origin.PROVIDER,
        amount_minor=amount_minor,
        currency=of.terms.currency,
        state=CommandState.SENDING,
        reason="requested",
        created_time_us=CREATED_US,
        updated_time_us=CREATED_US,
        command_id=command_id,
    )
    return replace(base, **changes)


def held(claim: Claim, claimed: Claimed) -> Operation:
    """The claim's operation as the store has it now."""
    return replace(
        claim.operation,
        epoch=claimed.epoch,
        claimed_time_us=claimed.claimed_time_us,
        lease_until_us=claimed.lease_until_us,
        next_attempt_us=claimed.lease_until_us,
        last_send_us=claimed.last_send_us,
    )


def money(of: Payment, *kinds: MovementKind, amount_minor: int | None = None, operation_id: str | None = None) -> Facts:
    """Succeeded movements of `kinds` at the provider's object of this payment, which stays open."""
    provider_id = f"prov_{of.payment_id}"
    movements = tuple(
        Movement(
            of.account_id,
            kind,
            f"{provider_id}_{kind.lower()}",
            of.terms.amount_minor if amount_minor is None else amount_minor,
            of.terms.currency,
            MovementStatus.SUCCEEDED,
            operation_id,
            CREATED_US,
        )
        for kind in sorted(kinds)
    )
    attempt = Attempt(of.account_id, provider_id, 1, AttemptStatus.SUCCEEDED, operation_id)
    return Facts(movements, (attempt,), (ProviderObject(of.account_id, provider_id),))


def settled(of: Payment, facts: Facts, **changes: Any) -> Payment:
    """The payment with `facts` merged in, everything derived from them."""
    merged = of.facts.merge(facts)
    base = replace(
        of,
        facts=merged,
        sums=derive_sums(merged),
        state=derive_payment_state(merged, [CommandState.SUCCEEDED]),
        provider_payment_id=f"prov_{of.payment_id}",
        updated_time_us=CREATED_US + 1,
    )
    return replace(base, **changes)


def observation(of: Payment, version: int, ordinal: int = 0, **changes: Any) -> Observation:
    """What a settle tells of a payment."""
    base = Observation(
        observation_id=fresh("obs"),
        tenant_id=of.tenant_id,
        organization_id=of.organization_id,
        payment_id=of.payment_id,
        version=version,
        ordinal=ordinal,
        kind=ObservationKind.PAYMENT_CHANGED,
        source=Source.API_REPLY,
        causation_id="op_1",
        correlation_id=of.correlation_id,
        payment_state=of.state,
        dispute_state=of.dispute_state,
        currency=of.terms.currency,
        amount_minor=of.terms.amount_minor,
        authorized_minor=of.sums.authorized_minor,
        captured_minor=of.sums.captured_minor,
        refunded_minor=of.sums.refunded_minor,
        disputed_minor=of.sums.disputed_minor,
        fee_minor=of.sums.fee_minor,
        provider=of.provider,
        account_id=of.account_id,
        observed_time_us=CREATED_US,
    )
    return replace(base, **changes)


def audit(**changes: Any) -> AuditRecord:
    """One interaction."""
    return replace(AuditRecord(fresh("aud"), CALLER, "CreatePayment", "SUCCEEDED"), **changes)


def settlement_of(claim: Claim, claimed: Claimed, **changes: Any) -> Settlement:
    """A create that succeeded: captured in full, with its reply, one observation and an audit record."""
    before = claim.payment
    assert before is not None
    operation_id = claim.operation.operation_id
    facts = money(before, MovementKind.AUTHORIZATION, MovementKind.CAPTURE, operation_id=operation_id)
    after = settled(before, facts, version=claimed.version + 1)
    base = Settlement(
        payment=after,
        expected_version=claimed.version,
        source=Source.API_REPLY,
        causation_id=operation_id,
        transitions=(
            edge(Entity.PAYMENT, before.payment_id, "CREATED", after.state),
            edge(Entity.COMMAND, claim.command.command_id, "SENDING", "SUCCEEDED"),
        ),
        operations=(
            OperationChange(
                replace(held(claim, claimed), state=CommandState.SUCCEEDED, sent=Sent.YES), claimed.epoch, None
            ),
        ),
        commands=(CommandChange(claim.command.command_id, CommandState.SUCCEEDED, b"reply\x00\xff"),),
        movements=facts.movements,
        observations=(observation(after, claimed.version + 1),),
        audit=(audit(caller=claim.command.caller, payment_id=before.payment_id),),
    )
    return replace(base, **changes)


def callback(**changes: Any) -> Callback:
    """A verified callback."""
    base = Callback(
        callback_id=fresh("cb"),
        provider="sandbox",
        account_id=ACCOUNT,
        event_id=fresh("evt"),
        event_type="payment.captured",
        body=b'{"id": "\xff\x00"}',
        headers={"signature": "v1=abc"},
        correlation_id="correlation-1",
        received_time_us=CREATED_US,
    )
    return replace(base, **changes)


def proposal(of: Operation, **changes: Any) -> Proposal:
    """One operator's word that an operation had no effect."""
    base = Proposal(
        proposal_id=fresh("prp"),
        tenant_id=of.tenant_id,
        payment_id=of.payment_id,
        command_id=of.command_id,
        operation_id=of.operation_id,
        resolution=Resolution.NOT_EXECUTED,
        reason="their support looked",
        actor="ann",
        correlation_id="correlation-2",
        version=2,
        last_send_us=0,
    )
    return replace(base, **changes)


def approval(of: Proposal, **changes: Any) -> Approval:
    """Another operator's yes."""
    base = Approval(of.proposal_id, of.tenant_id, of.actor, "bob", "correlation-3", "I asked as well")
    return replace(base, **changes)
