"""Rows of what is told and kept: refunds, history, observations, callbacks, the audit trail, operators' resolutions.

The same rules as in `store.rows`, which holds the rows that a command lives by.
"""

import json
from collections.abc import Iterable
from types import MappingProxyType

from gateway.domain.commands import CommandKind
from gateway.domain.movements import Origin
from gateway.domain.observations import Observation, ObservationKind, Source
from gateway.domain.payments import Refund
from gateway.domain.resolutions import Approval, Proposal, Resolution
from gateway.domain.states import CommandState, DisputeState, PaymentState
from gateway.domain.storage import AuditRecord, Callback, Entity, HistoryEntry, Transition
from store.values import (
    Row,
    Stored,
    clean,
    decline_document,
    decline_from,
    document,
    risk_document,
    risk_from,
    stored_bytes,
)


def refund_row(refund: Refund) -> Row:
    """A refund, all of it."""
    return {
        "tenant_id": refund.tenant_id,
        "refund_id": refund.refund_id,
        "payment_id": refund.payment_id,
        "origin": refund.origin.value,
        "amount_minor": refund.amount_minor,
        "currency": refund.currency,
        "state": refund.state.value,
        "reason": clean(refund.reason),
        "created_time_us": refund.created_time_us,
        "updated_time_us": refund.updated_time_us,
        "command_id": refund.command_id,
        "provider_refund_id": refund.provider_refund_id,
        "decline": decline_document(refund.decline),
    }


def refund_from(row: Stored) -> Refund:
    """A refund."""
    return Refund(
        refund_id=row["refund_id"],
        tenant_id=row["tenant_id"],
        payment_id=row["payment_id"],
        origin=Origin(row["origin"]),
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        state=CommandState(row["state"]),
        reason=row["reason"],
        created_time_us=row["created_time_us"],
        updated_time_us=row["updated_time_us"],
        command_id=row["command_id"],
        provider_refund_id=row["provider_refund_id"],
        decline=decline_from(row["decline"]),
    )


def transitions_document(transitions: Iterable[Transition]) -> str:
    """The edges of one version."""
    return document([[edge.entity, edge.entity_id, edge.before, edge.after] for edge in transitions])


def history_from(row: Stored) -> HistoryEntry:
    """One version of a payment."""
    return HistoryEntry(
        payment_id=row["payment_id"],
        version=row["version"],
        source=row["source"],
        causation_id=row["causation_id"],
        transitions=tuple(
            Transition(Entity(entity), entity_id, before, after)
            for entity, entity_id, before, after in json.loads(row["transitions"])
        ),
        recorded_time_us=row["recorded_time_us"],
    )


def observation_row(observation: Observation) -> Row:
    """An observation; its sequence is the log's."""
    return {
        "tenant_id": observation.tenant_id,
        "payment_id": observation.payment_id,
        "version": observation.version,
        "ordinal": observation.ordinal,
        "observation_id": observation.observation_id,
        "organization_id": observation.organization_id,
        "kind": observation.kind.value,
        "source": observation.source.value,
        "causation_id": observation.causation_id,
        "correlation_id": observation.correlation_id,
        "payment_state": observation.payment_state.value,
        "dispute_state": observation.dispute_state.value,
        "currency": observation.currency,
        "amount_minor": observation.amount_minor,
        "authorized_minor": observation.authorized_minor,
        "captured_minor": observation.captured_minor,
        "refunded_minor": observation.refunded_minor,
        "disputed_minor": observation.disputed_minor,
        "fee_minor": observation.fee_minor,
        "provider": observation.provider,
        "account_id": observation.account_id,
        "observed_time_us": observation.observed_time_us,
        "provider_time_us": observation.provider_time_us,
        "provider_payment_id": observation.provider_payment_id,
        "command_id": observation.command_id,
        "command_kind": None if observation.command_kind is None else observation.command_kind.value,
        "command_state": None if observation.command_state is None else observation.command_state.value,
        "refund_id": observation.refund_id,
        "subject_amount_minor": observation.subject_amount_minor,
        "order_reference": observation.order_reference,
        "decline": decline_document(observation.decline),
        "detail": clean(observation.detail),
        "risk": risk_document(observation.risk),
    }


def observation_from(row: Stored) -> Observation:
    """An observation with its place in the log; a row without a `sequence` is not numbered yet."""
    kind, state = row["command_kind"], row["command_state"]
    return Observation(
        observation_id=row["observation_id"],
        tenant_id=row["tenant_id"],
        organization_id=row["organization_id"],
        payment_id=row["payment_id"],
        version=row["version"],
        ordinal=row["ordinal"],
        kind=ObservationKind(row["kind"]),
        source=Source(row["source"]),
        causation_id=row["causation_id"],
        correlation_id=row["correlation_id"],
        payment_state=PaymentState(row["payment_state"]),
        dispute_state=DisputeState(row["dispute_state"]),
        currency=row["currency"],
        amount_minor=row["amount_minor"],
        authorized_minor=row["authorized_minor"],
        captured_minor=row["captured_minor"],
        refunded_minor=row["refunded_minor"],
        disputed_minor=row["disputed_minor"],
        fee_minor=row["fee_minor"],
        provider=row["provider"],
        account_id=row["account_id"],
        observed_time_us=row["observed_time_us"],
        provider_time_us=row["provider_time_us"],
        provider_payment_id=row["provider_payment_id"],
        command_id=row["command_id"],
        command_kind=None if kind is None else CommandKind(kind),
        command_state=None if state is None else CommandState(state),
        refund_id=row["refund_id"],
        subject_amount_minor=row["subject_amount_minor"],
        order_reference=row["order_reference"],
        decline=decline_from(row["decline"]),
        detail=row["detail"],
        sequence=row["sequence"] or 0,
        risk=risk_from(row["risk"]),
    )


def audit_row(record: AuditRecord) -> Row:
    """An audit record; `recorded_time_us` is the store's."""
    return {
        "tenant_id": record.caller.tenant_id,
        "audit_id": record.audit_id,
        "organization_id": record.caller.organization_id,
        "actor": record.caller.actor,
        "correlation_id": record.caller.correlation_id,
        "action": record.action,
        "result": record.result,
        "failure": clean(record.failure),
        "provider": record.provider,
        "account_id": record.account_id,
        "payment_id": record.payment_id,
        "command_id": record.command_id,
        "detail": clean(record.detail),
    }


def callback_row(callback: Callback) -> Row:
    """A callback as it goes into the inbox; when it is next tried is the store's."""
    return {
        "callback_id": callback.callback_id,
        "provider": callback.provider,
        "account_id": callback.account_id,
        "event_id": clean(callback.event_id),
        "event_type": clean(callback.event_type),
        "body": callback.body,
        "headers": document(dict(callback.headers)),
        "correlation_id": callback.correlation_id,
        "received_time_us": callback.received_time_us,
        "state": "RECEIVED",
        "note": "",
        "tenant_id": "",
        "payment_id": "",
        "epoch": 0,
        "tries": 0,
        "lease_until_us": None,
    }


def callback_from(row: Stored) -> Callback:
    """A callback, its body exactly what was received."""
    return Callback(
        callback_id=row["callback_id"],
        provider=row["provider"],
        account_id=row["account_id"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        body=stored_bytes(row["body"]) or b"",
        headers=MappingProxyType(json.loads(row["headers"])),
        correlation_id=row["correlation_id"],
        received_time_us=row["received_time_us"],
    )


def proposal_from(row: Stored) -> Proposal:
    """A proposal from its row."""
    return Proposal(
        proposal_id=row["proposal_id"],
        tenant_id=row["tenant_id"],
        payment_id=row["payment_id"],
        command_id=row["command_id"],
        operation_id=row["operation_id"],
        resolution=Resolution(row["resolution"]),
        reason=row["reason"],
        actor=row["actor"],
        correlation_id=row["correlation_id"],
        version=row["version"],
        last_send_us=row["last_send_us"],
        provider_result_id=row["provider_result_id"],
        provider_movement_id=row["provider_movement_id"],
        proposed_time_us=row["proposed_time_us"],
    )


def approval_row(approval: Approval) -> Row:
    """An approval; its time is the store's."""
    return {
        "tenant_id": approval.tenant_id,
        "proposal_id": approval.proposal_id,
        "proposed_by": approval.proposed_by,
        "actor": approval.actor,
        "correlation_id": approval.correlation_id,
        "reason": clean(approval.reason),
    }


def approval_from(row: Stored) -> Approval:
    """An approval from its row."""
    return Approval(
        proposal_id=row["proposal_id"],
        tenant_id=row["tenant_id"],
        proposed_by=row["proposed_by"],
        actor=row["actor"],
        correlation_id=row["correlation_id"],
        reason=row["reason"],
        approved_time_us=row["approved_time_us"],
    )
