"""Explaining a payment: everything that is kept of it as one timeline, oldest first, with nothing secret in it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from gateway.app.commands import no_payment
from gateway.app.proposing import APPROVE, PROPOSE
from gateway.app.queries import PAGE_BYTES_MAX
from gateway.app.redacting import redact_body, redact_headers, redact_path, redact_text
from gateway.app.requests import check_id
from gateway.domain.commands import Operation
from gateway.domain.operating import OPERATOR_ACTION, KeptAuditRecord, PaymentFile
from gateway.domain.payments import Payment
from gateway.domain.routes import Route
from gateway.domain.storage import Aggregate, HistoryEntry, Store

ENTRIES_MAX = 1_000
DETAIL_CHARACTERS_MAX = 4_200
ENTRY_BYTES = 200
"""What an entry takes beside its texts."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened: when (unix microseconds), of which kind, in one line, and more by name."""

    time_us: int
    kind: str
    summary: str
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explained:
    """The payment as it stands and its timeline; `truncated` where later entries were left out.

    `route` is why it is at its account, None where no rules were configured; its words are redacted as the timeline's.
    """

    payment: Payment
    timeline: tuple[Entry, ...]
    truncated: bool
    route: Route | None = None


class Explaining:
    """The use case behind ExplainPayment."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def explain(self, tenant_id: str, payment_id: str) -> Explained:
        """Raises InvalidRequest, NotFound(PAYMENT_NOT_FOUND)."""
        check_id("tenant_id", tenant_id)
        check_id("payment_id", payment_id)
        aggregate = await self._store.load(tenant_id, payment_id)
        if aggregate is None:
            raise no_payment(payment_id)
        # One more than is shown of each kind: then it is known whether anything was left out.
        limit = ENTRIES_MAX + 1
        history = await self._store.history(tenant_id, payment_id, after_version=0, limit=limit)
        file = await self._store.payment_file(tenant_id, payment_id, limit=limit)
        entries = sorted(timeline_of(aggregate, history, file), key=lambda entry: entry.time_us)
        shown = tuple(_fitting(map(_redacted, entries[:ENTRIES_MAX])))
        route = _redacted_route(aggregate.payment.route)
        return Explained(aggregate.payment, shown, truncated=len(entries) > len(shown), route=route)


def timeline_of(aggregate: Aggregate, history: Sequence[HistoryEntry], file: PaymentFile) -> Iterator[Entry]:
    """Every entry, in no order but that of cause before effect at equal times."""
    return chain(
        _route(aggregate.payment),
        map(_call, aggregate.operations),
        map(_version, history),
        _callbacks(file),
        _evidence(file),
        _operators(file),
        _audit(file),
        _observations(file),
        _decisions(file),
    )


def _fitting(entries: Iterable[Entry]) -> Iterator[Entry]:
    """As many as fit into the bytes of a reply that every client takes."""
    room = PAGE_BYTES_MAX
    for entry in entries:
        texts = (entry.summary, *entry.details, *entry.details.values())
        room -= ENTRY_BYTES + sum(len(each.encode()) for each in texts)
        if room < 0:
            return
        yield entry


def _redacted(entry: Entry) -> Entry:
    """Nothing leaves unsearched: also a provider's words in a failure can quote what it was sent."""
    details = {
        name: redact_text(value)[:DETAIL_CHARACTERS_MAX]
        for name, value in entry.details.items()
        if value not in ("", "-")
    }
    return Entry(entry.time_us, entry.kind, redact_text(entry.summary), details)


def _redacted_route(route: Route | None) -> Route | None:
    if route is None:
        return None
    attempts = tuple(replace(each, detail=redact_text(each.detail)) for each in route.attempts)
    return replace(route, why=tuple(map(redact_text, route.why)), attempts=attempts)


def _route(payment: Payment) -> Iterator[Entry]:
    """Why this provider: the choice and what spoke against each account, then how it ended at each that was tried."""
    route = payment.route
    if route is None:
        return
    reasons = {f"reason {number}": words for number, words in enumerate(route.why, 1)}
    yield Entry(
        # When the choice was made is not kept; the payment was claimed by it.
        payment.created_time_us,
        "ROUTE",
        "; ".join(route.why),
        {"rule": route.rule, "candidates": ", ".join(route.candidates), **reasons},
    )
    for attempt in route.attempts:
        told = f": {attempt.detail}" if attempt.detail else ""
        yield Entry(
            attempt.time_us,
            "ROUTE",
            f"{attempt.account_id} {attempt.outcome}{told}",
            {"account_id": attempt.account_id, "outcome": attempt.outcome, "detail": attempt.detail},
        )
    if route.failing_over:
        yield Entry(
            payment.updated_time_us,
            "ROUTE",
            f"on its way from {route.left[-1]}, once its object there is confirmed cancelled, to the next account",
            {"leaves": route.left[-1]},
        )


def _call(operation: Operation) -> Entry:
    prepared = operation.prepared
    failure = f" ({operation.failure})" if operation.failure else ""
    request = f"{prepared.method} {redact_path(prepared.path)}" if prepared.method else "gone: its key's window is over"
    amount = f"{operation.amount_minor} {operation.currency}"
    return Entry(
        operation.claimed_time_us,
        "CALL",
        f"{operation.kind} of {amount} to {operation.account_id}: {operation.state}{failure}",
        {
            "operation_id": operation.operation_id,
            "command_id": operation.command_id,
            "provider": operation.provider,
            "account_id": operation.account_id,
            "amount_minor": str(operation.amount_minor),
            "currency": operation.currency,
            "state": operation.state,
            "sent": operation.sent,
            "epoch": str(operation.epoch),
            "recoveries": str(operation.recoveries),
            "request": request,
            "request_headers": redact_headers(prepared.headers),
            "request_body": redact_body(prepared.body),
            "provider_idempotency_key": prepared.idempotency_key,
            "api_version": prepared.api_version,
            "provider_payment_id": operation.provider_payment_id or "",
            "provider_result_id": operation.provider_result_id or "",
            "decline": operation.decline.reason if operation.decline else "",
            "failure": operation.failure,
        },
    )


def _version(entry: HistoryEntry) -> Entry:
    edges = [f"{edge.entity} {edge.before or 'new'} -> {edge.after}" for edge in entry.transitions]
    told = ", ".join(edges) or "facts only"
    details = {
        f"{edge.entity} {edge.entity_id}": f"{edge.before or 'new'} -> {edge.after}" for edge in entry.transitions
    }
    return Entry(
        entry.recorded_time_us,
        "VERSION",
        f"version {entry.version} by {entry.source}: {told}",
        {"version": str(entry.version), "source": entry.source, "causation_id": entry.causation_id} | details,
    )


def _callbacks(file: PaymentFile) -> Iterator[Entry]:
    for kept in file.callbacks:
        callback = kept.callback
        note = f" ({kept.note})" if kept.note else ""
        yield Entry(
            callback.received_time_us,
            "CALLBACK",
            f"{callback.event_type} from {callback.account_id}: {kept.state}{note}",
            {
                "callback_id": callback.callback_id,
                "event_id": callback.event_id,
                "event_type": callback.event_type,
                "account_id": callback.account_id,
                "state": kept.state,
                "note": kept.note,
                "tries": str(kept.tries),
            },
        )


def _evidence(file: PaymentFile) -> Iterator[Entry]:
    for kept in file.evidence:
        yield Entry(
            kept.recorded_time_us,
            "EVIDENCE",
            f"a reply came after its fence was lost: {kept.words[:120]}",
            {
                "evidence_id": kept.evidence_id,
                "operation_id": kept.operation_id,
                "epoch": str(kept.epoch),
                "evidence": kept.words,
            },
        )


def _operators(file: PaymentFile) -> Iterator[Entry]:
    for proposal in file.proposals:
        yield Entry(
            proposal.proposed_time_us,
            "OPERATOR",
            f"{proposal.actor} proposed {proposal.resolution}: {proposal.reason}",
            {
                "proposal_id": proposal.proposal_id,
                "command_id": proposal.command_id,
                "actor": proposal.actor,
                "resolution": proposal.resolution,
                "reason": proposal.reason,
                "provider_result_id": proposal.provider_result_id,
                "provider_movement_id": proposal.provider_movement_id,
                "version": str(proposal.version),
            },
        )
    for approval in file.approvals:
        yield Entry(
            approval.approved_time_us,
            "OPERATOR",
            f"{approval.actor} approved what {approval.proposed_by} proposed: {approval.reason}",
            {"proposal_id": approval.proposal_id, "actor": approval.actor, "reason": approval.reason},
        )


def _audit(file: PaymentFile) -> Iterator[Entry]:
    told = {kept.evidence_id for kept in file.evidence}
    for kept in file.audit:
        record = kept.record
        as_rows = record.action in (PROPOSE, APPROVE) and record.result != "REFUSED"
        if record.audit_id not in told and not as_rows:
            yield _audited(kept)


def _audited(kept: KeptAuditRecord) -> Entry:
    record = kept.record
    kind = "AUDIT"
    if record.action.startswith(OPERATOR_ACTION):
        kind = "OPERATOR"
    elif record.action.endswith(".RECOVERY"):
        kind = "RECOVERY"
    failure = f" ({record.failure})" if record.failure else ""
    return Entry(
        kept.recorded_time_us,
        kind,
        f"{record.action} by {record.caller.actor}: {record.result}{failure}",
        {
            "audit_id": record.audit_id,
            "actor": record.caller.actor,
            "organization_id": record.caller.organization_id,
            "correlation_id": record.caller.correlation_id,
            "command_id": record.command_id,
            "account_id": record.account_id,
            "failure": record.failure,
            "detail": record.detail,
        },
    )


def _observations(file: PaymentFile) -> Iterator[Entry]:
    for seen in file.observations:
        about = f" {seen.command_kind} {seen.command_state}" if seen.command_kind else ""
        detail = f": {seen.detail}" if seen.detail else ""
        yield Entry(
            seen.observed_time_us,
            "OBSERVATION",
            f"{seen.kind}{about}, payment {seen.payment_state}{detail}",
            {
                "observation_id": seen.observation_id,
                "sequence": str(seen.sequence or ""),
                "source": seen.source,
                "causation_id": seen.causation_id,
                "version": str(seen.version),
                "captured_minor": str(seen.captured_minor),
                "refunded_minor": str(seen.refunded_minor),
                "disputed_minor": str(seen.disputed_minor),
                "risk": seen.risk.level if seen.risk else "",
                "detail": seen.detail,
            },
        )


def _decisions(file: PaymentFile) -> Iterator[Entry]:
    for decided in file.decisions:
        word = "accepted" if decided.accepted else f"rejected ({decided.reason})"
        yield Entry(
            decided.decided_time_us,
            "DECISION",
            f"{decided.consumer} {word}",
            {
                "consumer": decided.consumer,
                "observation_id": decided.observation_id,
                "actor": decided.actor,
                "reason": decided.reason,
            },
        )
