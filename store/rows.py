"""Rows to values and back: `*_row` gives a dict by column name, `*_from` takes any mapping by column name.

A row holds str, int, bool, bytes or None, and nothing that an engine could read differently. Documents are JSON escaped
to ASCII. Where a row came as JSON (an aggregate read in one statement), bytes are hex text behind `\\x` and SQLite's
booleans are 0 and 1: the readers here take both forms.

Texts that a provider wrote are kept without what no engine can hold: NUL and lone surrogates become U+FFFD.
"""

import json
from collections.abc import Iterable
from types import MappingProxyType

from gateway.domain.commands import Caller, Command, CommandKind, Operation, PreparedRequest
from gateway.domain.derivation import MoneySums
from gateway.domain.errors import Sent
from gateway.domain.observations import Source
from gateway.domain.payments import (
    CaptureMethod,
    ConfirmationMethod,
    LatestCommand,
    NextAction,
    Payment,
    PaymentTerms,
)
from gateway.domain.states import CommandState, DisputeState, PaymentState
from store.facts import facts_from, flow_document
from store.routes import failover_due_us, route_document, route_from
from store.values import Row, Stored, clean, decline_document, decline_from, document, stored_bytes

SUMS = tuple(MoneySums.__dataclass_fields__)
"""The columns of a payment's sums."""


def _latest_document(latest: LatestCommand | None) -> str | None:
    if latest is None:
        return None
    return document([latest.command_id, latest.kind, latest.state, decline_document(latest.decline)])


def _latest_from(value: str | None) -> LatestCommand | None:
    if value is None:
        return None
    command_id, kind, state, decline = json.loads(value)
    return LatestCommand(command_id, CommandKind(kind), CommandState(state), decline_from(decline))


def terms_row(terms: PaymentTerms) -> Row:
    """What the caller asked for."""
    return {
        "amount_minor": terms.amount_minor,
        "currency": terms.currency,
        "capture_method": terms.capture_method.value,
        "confirmation_method": terms.confirmation_method.value,
        "payment_method": terms.payment_method,
        "customer_reference": terms.customer_reference,
        "description": terms.description,
        "statement_descriptor": terms.statement_descriptor,
        "return_url": terms.return_url,
        "metadata": document(dict(terms.metadata)),
        "order_reference": terms.order_reference,
        "order_reference_unique": terms.order_reference_unique,
        "connected_account": terms.connected_account,
        "expire_time_us": terms.expire_time_us,
    }


def derived_row(payment: Payment, source: Source | None = None) -> Row:
    """What a settle by news of `source` writes of a payment: all but its identity and its terms."""
    action = payment.next_action
    sums = payment.sums
    return {
        "provider": payment.provider,
        "account_id": payment.account_id,
        "authorized_minor": sums.authorized_minor,
        "authorized_open_minor": sums.authorized_open_minor,
        "captured_minor": sums.captured_minor,
        "capture_pending_minor": sums.capture_pending_minor,
        "refunded_minor": sums.refunded_minor,
        "refund_pending_minor": sums.refund_pending_minor,
        "disputed_minor": sums.disputed_minor,
        "fee_minor": sums.fee_minor,
        "state": payment.state.value,
        "dispute_state": payment.dispute_state.value,
        "version": payment.version,
        "updated_time_us": payment.updated_time_us,
        "provider_payment_id": payment.provider_payment_id,
        "reserved_capture_minor": payment.reserved_capture_minor,
        "reserved_refund_minor": payment.reserved_refund_minor,
        "busy_command_id": payment.busy_command_id,
        "next_action": None if action is None else document([action.redirect_url, action.client_secret]),
        "decline": decline_document(payment.decline),
        "latest_command": _latest_document(payment.latest_command),
        "flow": flow_document(payment.facts),
        "route": route_document(payment.route),
        "failover_due_us": failover_due_us(payment, source),
    }


DERIVED_COLUMNS = (
    *("provider", "account_id", *SUMS, "state", "dispute_state", "version", "updated_time_us", "provider_payment_id"),
    *("reserved_capture_minor", "reserved_refund_minor", "busy_command_id", "next_action", "decline", "flow"),
    *("latest_command", "route", "failover_due_us"),
)
"""The columns of `derived_row`."""


def payment_row(payment: Payment) -> Row:
    """A new payment, with the store's own columns as they are at its claim."""
    terms = payment.terms
    return {
        "tenant_id": payment.tenant_id,
        "payment_id": payment.payment_id,
        "organization_id": payment.organization_id,
        "correlation_id": payment.correlation_id,
        "created_time_us": payment.created_time_us,
        **terms_row(terms),
        **derived_row(payment),
        "unique_order_reference": terms.order_reference if terms.order_reference_unique else None,
        "command_count": 1,
        "action_due_us": terms.expire_time_us,
    }


def payment_from(row: Stored, movements: Iterable[Stored]) -> Payment:
    """A payment from its row and the rows of its movements, in any order."""
    action = row["next_action"]
    return Payment(
        payment_id=row["payment_id"],
        tenant_id=row["tenant_id"],
        organization_id=row["organization_id"],
        correlation_id=row["correlation_id"],
        terms=PaymentTerms(
            amount_minor=row["amount_minor"],
            currency=row["currency"],
            capture_method=CaptureMethod(row["capture_method"]),
            confirmation_method=ConfirmationMethod(row["confirmation_method"]),
            payment_method=row["payment_method"],
            customer_reference=row["customer_reference"],
            description=row["description"],
            statement_descriptor=row["statement_descriptor"],
            return_url=row["return_url"],
            metadata=MappingProxyType(json.loads(row["metadata"])),
            order_reference=row["order_reference"],
            order_reference_unique=bool(row["order_reference_unique"]),
            connected_account=row["connected_account"],
            expire_time_us=row["expire_time_us"],
        ),
        provider=row["provider"],
        account_id=row["account_id"],
        facts=facts_from(row["flow"], movements),
        sums=MoneySums(*(row[name] for name in SUMS)),
        state=PaymentState(row["state"]),
        dispute_state=DisputeState(row["dispute_state"]),
        version=row["version"],
        created_time_us=row["created_time_us"],
        updated_time_us=row["updated_time_us"],
        provider_payment_id=row["provider_payment_id"],
        reserved_capture_minor=row["reserved_capture_minor"],
        reserved_refund_minor=row["reserved_refund_minor"],
        busy_command_id=row["busy_command_id"],
        next_action=None if action is None else NextAction(*json.loads(action)),
        decline=decline_from(row["decline"]),
        latest_command=_latest_from(row["latest_command"]),
        route=route_from(row["route"]),
    )


def command_row(command: Command) -> Row:
    """A command as it is claimed; `final_time_us` is the store's, set by the settle that ends it."""
    return {
        "tenant_id": command.caller.tenant_id,
        "command_id": command.command_id,
        "kind": command.kind.value,
        "rpc": command.rpc,
        "idempotency_key": command.idempotency_key,
        "request_hash": command.request_hash,
        "organization_id": command.caller.organization_id,
        "actor": command.caller.actor,
        "correlation_id": command.caller.correlation_id,
        "payment_id": command.payment_id,
        "state": command.state.value,
        "created_time_us": command.created_time_us,
        "refund_id": command.refund_id,
        "reply": command.reply,
        "expired": command.expired,
        "final_time_us": None,
    }


def command_from(row: Stored) -> Command:
    """A command; its reply is the bytes that were stored."""
    return Command(
        command_id=row["command_id"],
        kind=CommandKind(row["kind"]),
        rpc=row["rpc"],
        idempotency_key=row["idempotency_key"],
        request_hash=stored_bytes(row["request_hash"]) or b"",
        caller=Caller(row["tenant_id"], row["organization_id"], row["actor"], row["correlation_id"]),
        payment_id=row["payment_id"],
        state=CommandState(row["state"]),
        created_time_us=row["created_time_us"],
        refund_id=row["refund_id"],
        reply=stored_bytes(row["reply"]),
        expired=bool(row["expired"]),
    )


def prepared_document(prepared: PreparedRequest) -> str:
    """The exact request: every character of it comes back."""
    return document(
        [
            prepared.method,
            prepared.path,
            prepared.body,
            prepared.idempotency_key,
            prepared.api_version,
            prepared.key_window_s,
            dict(prepared.headers),
        ]
    )


def _prepared_from(value: str) -> PreparedRequest:
    if not value:  # a tombstone's: the request is gone
        return PreparedRequest("", "", "", "", "", 0)
    method, path, body, key, api_version, key_window_s, headers = json.loads(value)
    return PreparedRequest(method, path, body, key, api_version, key_window_s, MappingProxyType(headers))


def operation_row(operation: Operation) -> Row:
    """An operation, all of it."""
    return {
        "tenant_id": operation.tenant_id,
        "operation_id": operation.operation_id,
        "command_id": operation.command_id,
        "payment_id": operation.payment_id,
        "step": operation.step,
        "kind": operation.kind.value,
        "provider": operation.provider,
        "account_id": operation.account_id,
        "amount_minor": operation.amount_minor,
        "currency": operation.currency,
        "prepared": prepared_document(operation.prepared),
        "state": operation.state.value,
        "sent": operation.sent.value,
        "epoch": operation.epoch,
        "claimed_time_us": operation.claimed_time_us,
        "lease_until_us": operation.lease_until_us,
        "next_attempt_us": operation.next_attempt_us,
        "last_send_us": operation.last_send_us,
        "recoveries": operation.recoveries,
        "reserved_minor": operation.reserved_minor,
        "refund_id": operation.refund_id,
        "provider_payment_id": operation.provider_payment_id,
        "provider_result_id": operation.provider_result_id,
        "final_capture": operation.final_capture,
        "decline": decline_document(operation.decline),
        "failure": clean(operation.failure),
    }


def operation_from(row: Stored) -> Operation:
    """An operation."""
    return Operation(
        operation_id=row["operation_id"],
        command_id=row["command_id"],
        payment_id=row["payment_id"],
        tenant_id=row["tenant_id"],
        step=row["step"],
        kind=CommandKind(row["kind"]),
        provider=row["provider"],
        account_id=row["account_id"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        prepared=_prepared_from(row["prepared"]),
        state=CommandState(row["state"]),
        sent=Sent(row["sent"]),
        epoch=row["epoch"],
        claimed_time_us=row["claimed_time_us"],
        lease_until_us=row["lease_until_us"],
        next_attempt_us=row["next_attempt_us"],
        last_send_us=row["last_send_us"],
        recoveries=row["recoveries"],
        reserved_minor=row["reserved_minor"],
        refund_id=row["refund_id"],
        provider_payment_id=row["provider_payment_id"],
        provider_result_id=row["provider_result_id"],
        final_capture=bool(row["final_capture"]),
        decline=decline_from(row["decline"]),
        failure=row["failure"],
    )
