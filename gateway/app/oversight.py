"""Oversight: provider accounts with what they can do, what is unresolved by state and age, and the audit trail."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.app.proposing import is_stale
from gateway.app.queries import page_size_of
from gateway.app.requests import check_id
from gateway.app.settings import EngineSettings
from gateway.app.tokens import page_token_of, position_of
from gateway.domain.adjusting import Adjusts
from gateway.domain.errors import InvalidRequest, Reason
from gateway.domain.operating import (
    AuditFilter,
    KeptAuditRecord,
    Place,
    UnresolvedFilter,
    UnresolvedItem,
    UnresolvedOperation,
)
from gateway.domain.providers import (
    Account,
    Accounts,
    Cancels,
    Captures,
    Completes,
    Confirms,
    ListsEvents,
    ListsPayments,
    ReadsCallbacks,
    Refunds,
)
from gateway.domain.states import LIVE_COMMAND_STATES, RESERVING_STATES, CommandState, PaymentState
from gateway.domain.storage import Store

AGE_S_MAX = 100 * 366 * 86_400
"""A hundred years: the age in a request is bounded by it."""

UNRESOLVED_STATES = (CommandState.SENDING, CommandState.UNKNOWN, CommandState.PENDING)
STUCK_STATES = (PaymentState.REQUIRES_ACTION, PaymentState.PROCESSING, PaymentState.AUTHORIZED)


@dataclass(frozen=True, slots=True)
class Seen:
    """An item of the list, with its age in seconds; `alarmed` and `stale` (of its proposal) as of the same moment."""

    item: UnresolvedItem
    age_s: float
    alarmed: bool = False
    stale: bool = False


class Oversight:
    """The use cases behind ListProviders, ListUnresolved and ListAuditRecords."""

    def __init__(self, store: Store, accounts: Accounts, settings: EngineSettings) -> None:
        self._store = store
        self._accounts = accounts
        self._settings = settings

    def accounts(self) -> Sequence[Account]:
        """The configured accounts, by id."""
        return sorted(self._accounts.all(), key=lambda account: account.account_id)

    async def unresolved(
        self,
        states: Collection[CommandState],
        payment_states: Collection[PaymentState],
        *,
        age_s_min: int,
        tenant_id: str,
        page_size: int,
        page_token: str,
    ) -> tuple[Sequence[Seen], str]:
        """A page, oldest first, and the next page's token. Raises InvalidRequest."""
        wanted = self._wanted(states, payment_states, age_s_min, tenant_id)
        question, limit = _question(wanted), page_size_of(page_size)
        page = await self._store.list_unresolved(wanted, after=_place(position_of(question, page_token)), limit=limit)
        seen = [self._seen(item, page.now_us) for item in page.items]
        # An item can have come to its end between two looks of the store: then a page is short and not the last.
        last = page.last
        return seen, page_token_of(question, f"{last.since_us}:{last.item_id}") if last else ""

    async def audit(
        self, wanted: AuditFilter, page_size: int, page_token: str
    ) -> tuple[Sequence[KeptAuditRecord], str]:
        """A page, newest first, and the next page's token. Raises InvalidRequest."""
        if wanted.payment_id:
            check_id("tenant_id", wanted.tenant_id)
        question, limit = f"audit {wanted!r}", page_size_of(page_size)
        page = await self._store.list_audit(wanted, position=position_of(question, page_token), limit=limit)
        return page.records, page_token_of(question, page.position) if page.position else ""

    def _wanted(
        self,
        states: Collection[CommandState],
        payment_states: Collection[PaymentState],
        age_s_min: int,
        tenant_id: str,
    ) -> UnresolvedFilter:
        if not 0 <= age_s_min <= AGE_S_MAX:
            raise _invalid("age_seconds_min", f"must be 0 to {AGE_S_MAX}")
        for state in states:
            if state not in LIVE_COMMAND_STATES:
                raise _invalid("states", f"{state} has come to an end")
        for each in payment_states:
            if each not in STUCK_STATES:
                raise _invalid("payment_states", f"a payment does not pass through {each}: list payments by state")
        if not states and not payment_states:
            states, payment_states = UNRESOLVED_STATES, STUCK_STATES
        settings = self._settings
        too_long = {
            PaymentState.REQUIRES_ACTION: settings.stuck_action_s,
            PaymentState.PROCESSING: settings.stuck_processing_s,
            PaymentState.AUTHORIZED: settings.stuck_hold_s,
        }
        return UnresolvedFilter(
            operations={state: float(age_s_min) for state in sorted(states)},
            payments={state: float(age_s_min) if age_s_min else too_long[state] for state in sorted(payment_states)},
            tenant_id=tenant_id,
        )

    def _seen(self, item: UnresolvedItem, now_us: int) -> Seen:
        age_s = max(0.0, (now_us - item.since_us) / 1_000_000)
        if not isinstance(item, UnresolvedOperation):
            return Seen(item, age_s)
        alarmed = item.operation.state in RESERVING_STATES and age_s >= self._settings.unresolved_alarm_s
        stale = item.proposal is not None and is_stale(item.proposal, item.operation, item.version, now_us)
        return Seen(item, age_s, alarmed, stale)


def capabilities_of(account: Account) -> Sequence[str]:
    """What an account can do, sorted: from its capabilities as data and from what its adapter implements."""
    adapter, able = account.adapter, account.adapter.capabilities
    adjustment = able.adjustment if isinstance(adapter, Adjusts) else None
    known = {
        "ADJUST_AMOUNT": adjustment is not None and adjustment.raises_amount,
        "ADJUST_VALIDITY": adjustment is not None and adjustment.extends_validity,
        "CALLBACKS": isinstance(adapter, ReadsCallbacks),
        "CANCEL": isinstance(adapter, Cancels),
        "CAPTURE": isinstance(adapter, Captures),
        "CAPTURE_MULTIPLE": able.multiple_capture,
        "CAPTURE_PARTIAL": able.partial_capture,
        "COMPLETE": isinstance(adapter, Completes),
        "CONFIRM": isinstance(adapter, Confirms),
        "CONSISTENT_ABSENCE": able.absence_is_consistent,
        "EVENT_LIST": isinstance(adapter, ListsEvents),
        "PAYMENT_LIST": isinstance(adapter, ListsPayments),
        "REFUND": able.refunds and isinstance(adapter, Refunds),
        "REFUND_PARTIAL": able.partial_refund,
    }
    return sorted(name for name, has in known.items() if has)


def _question(wanted: UnresolvedFilter) -> str:
    return f"unresolved {sorted(wanted.operations.items())} {sorted(wanted.payments.items())} {wanted.tenant_id}"


def _place(position: str) -> Place:
    since_us, _, item_id = position.partition(":")
    return Place(int(since_us), item_id) if position else Place()


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(Reason.FIELD_INVALID, f"{field}: {message}", field=field)
