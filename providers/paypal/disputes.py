"""A dispute as a movement, and the capture that it is about.

lifecycle INQUIRY, not resolved                          INQUIRY
lifecycle INQUIRY, resolved without the buyer's money    INQUIRY_CLOSED
CHARGEBACK, PRE_ARBITRATION, ARBITRATION, not resolved   OPEN
resolved in the seller's favour, cancelled by the buyer  WON
resolved in the buyer's favour, or accepted              LOST, of what the buyer got back where PayPal says so
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.domain.movements import Movement, MovementKind, MovementStatus
from providers.fields import Fields, UnreadableAnswer, bounded
from providers.paypal.amounts import currency_of, minor_of
from providers.paypal.times import time_us

REASON_CHARACTERS_MAX = 200

_S = MovementStatus

STAGES: Mapping[str, MovementStatus] = MappingProxyType(
    {"INQUIRY": _S.INQUIRY, "CHARGEBACK": _S.OPEN, "PRE_ARBITRATION": _S.OPEN, "ARBITRATION": _S.OPEN}
)
"""The lifecycle stage of a dispute that is not resolved."""

STATUSES = frozenset(
    {"OPEN", "WAITING_FOR_BUYER_RESPONSE", "WAITING_FOR_SELLER_RESPONSE", "UNDER_REVIEW", "RESOLVED", "OTHER"}
)

OUTCOMES: Mapping[str, MovementStatus] = MappingProxyType(
    {
        "RESOLVED_SELLER_FAVOUR": _S.WON,
        "CANCELED_BY_BUYER": _S.WON,
        "DENIED": _S.WON,
        "RESOLVED_WITH_PAYOUT": _S.WON,
        "RESOLVED_BUYER_FAVOUR": _S.LOST,
        "ACCEPTED": _S.LOST,
    }
)
"""The outcome of a resolved dispute; with a payout PayPal pays the buyer, and the seller keeps the capture.

NONE is left out: PayPal does not say for whom such a case has ended, so that a person has to look.
"""

Unmapped = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class DisputeReading:
    """One dispute of the Disputes API."""

    dispute: Fields

    @property
    def capture_id(self) -> str:
        """The seller's transaction that it is about. Raises UnreadableAnswer unless it is exactly one."""
        found = [
            each.text("seller_transaction_id")
            for each in (self.dispute.objects("disputed_transactions"))
            if each.optional_text("seller_transaction_id")
        ]
        if len(found) != 1:
            raise UnreadableAnswer("dispute.disputed_transactions: not one")
        return found[0]

    def movement(self, account_id: str, unmapped: Unmapped) -> Movement | None:
        """The dispute as a fact; None, and `unmapped` told, where a table does not have it."""
        status = self._status(unmapped)
        amount = self.dispute.optional("dispute_amount")
        if amount is None:
            raise UnreadableAnswer("dispute.dispute_amount: missing")
        if status is None:
            return None
        if status is _S.LOST:
            amount = self._given(amount)
        return Movement(
            account_id,
            MovementKind.DISPUTE,
            self.dispute.text("dispute_id"),
            minor_of(amount),
            currency_of(amount),
            status,
            provider_time_us=time_us(self.dispute, "create_time"),
            reason=bounded(self.dispute.optional_text("reason"), REASON_CHARACTERS_MAX),
        )

    def _given(self, disputed: Fields) -> Fields:
        """What a lost dispute cost: the buyer may get less than was disputed. Another currency is the books' affair."""
        outcome = self.dispute.optional("dispute_outcome")
        given = outcome.optional("amount_refunded") if outcome else None
        return given if given is not None and currency_of(given) == currency_of(disputed) else disputed

    def _status(self, unmapped: Unmapped) -> MovementStatus | None:
        status, stage = self.dispute.text("status"), self.dispute.optional_text("dispute_life_cycle_stage")
        if status not in STATUSES:
            unmapped("dispute.status", status)
            return None
        if status != "RESOLVED":
            if stage not in STAGES:
                unmapped("dispute.stage", stage)
            return STAGES.get(stage)
        outcome = self.dispute.optional("dispute_outcome")
        code = outcome.optional_text("outcome_code") if outcome else ""
        if code not in OUTCOMES:
            unmapped("dispute.outcome", code)
            return None
        ended = OUTCOMES[code]
        # An inquiry that ended for the seller never held any money.
        return _S.INQUIRY_CLOSED if ended is _S.WON and stage == "INQUIRY" else ended
