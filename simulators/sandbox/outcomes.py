"""Outcomes: payment methods that explain themselves. `GET /control/tokens` prints the tables that drive them.

A request without a payment method is decided by the last two digits of its amount, where AMOUNTS knows them;
elsewhere it is refused with `payment_method_missing`. With a payment method the amount decides nothing. An adjustment
has none: its new total decides, and succeeds where AMOUNTS does not know it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from simulators.faults import FAULTS
from simulators.sandbox.refusals import refused

Advice = Literal["retry_later", "do_not_retry", "try_another_method"]

DECLINES: dict[str, tuple[str, Advice]] = {
    "card_declined": ("The card was declined.", "try_another_method"),
    "insufficient_funds": ("The card has insufficient funds.", "retry_later"),
    "expired_card": ("The card has expired.", "try_another_method"),
    "lost_or_stolen": ("The card was reported lost or stolen.", "do_not_retry"),
    "suspected_fraud": ("The payment looks fraudulent.", "do_not_retry"),
    "quantum_flux": ("A code that no mapping knows.", "try_another_method"),
    "authentication_failed": ("The customer did not authenticate.", "try_another_method"),
    "processing_failed": ("The bank refused the payment.", "try_another_method"),
}
UNKNOWN_STATUS = "quantum_held"


@dataclass(frozen=True)
class Outcome:
    """What a payment method does when it is confirmed, and afterwards.

    `decline` is the code where the attempt declines (after the customer's approval, for "action"), `adjustment` that of
    every adjustment. `settled` is how a processing attempt ends. `fault` hits the first `fault_times` requests of an
    idempotency key. With `only_at` it does so at that account alone, and succeeds at every other. `risk` is what every
    attempt is held for, None where nobody looks.
    """

    token: str
    explains: str
    attempt: Literal["approve", "action", "process", "decline"] = "approve"
    decline: str | None = None
    settled: Literal["succeeded", "failed"] = "succeeded"
    fault: str | None = None
    fault_times: int = 1
    refund: Literal["succeeds", "pends", "reverses"] = "succeeds"
    disputed: bool = False
    only_at: str | None = None
    adjustment: str | None = None
    risk: Literal["normal", "elevated", "highest"] | None = None


def _declining(suffix: str, code: str) -> Outcome:
    return Outcome(f"card_declined{suffix}", f"declines with {code}", "decline", code)


def _failing(suffix: str, fault: str, times: int = 1) -> Outcome:
    return Outcome(f"card_{suffix}", FAULTS[fault].explains, fault=fault, fault_times=times)


OUTCOMES: dict[str, Outcome] = {
    outcome.token: outcome
    for outcome in (
        Outcome("card_ok", "succeeds"),
        Outcome("card_requires_action", "redirects the customer, then succeeds", "action"),
        Outcome("card_action_then_declined", "redirects, then declines all the same", "action", "card_declined"),
        _declining("", "card_declined"),
        _declining("_insufficient_funds", "insufficient_funds"),
        _declining("_expired", "expired_card"),
        _declining("_lost_stolen", "lost_or_stolen"),
        _declining("_fraud", "suspected_fraud"),
        _declining("_unmapped", "quantum_flux"),
        Outcome(
            "card_declined_at_main", "declines at acct_main alone", "decline", "card_declined", only_at="acct_main"
        ),
        Outcome(
            "card_fraud_at_main",
            "looks fraudulent to acct_main alone",
            "decline",
            "suspected_fraud",
            only_at="acct_main",
        ),
        Outcome("card_processing_then_ok", "processing, then succeeds", "process"),
        Outcome("card_processing_then_failed", "processing, then fails", "process", "processing_failed", "failed"),
        _failing("answer_lost", "lost_after"),
        _failing("answer_lost_before_effect", "lost_before"),
        _failing("timeout_after_effect", "timeout_after"),
        _failing("timeout_before_effect", "timeout_before"),
        _failing("500_after_effect", "http_500_after"),
        _failing("500_before_effect", "http_500_before"),
        _failing("malformed_answer", "malformed"),
        _failing("truncated_answer", "truncated"),
        _failing("wrong_amount_answer", "wrong_amount"),
        _failing("slow_drip", "slow_drip"),
        _failing("huge_answer", "huge_body"),
        _failing("429", "http_429", times=2),
        _failing("unknown_status", "unknown_status"),
        Outcome("card_refund_pending", "succeeds; refunds pend, then succeed", refund="pends"),
        Outcome("card_refund_fails", "succeeds; refunds succeed, then are reversed", refund="reverses"),
        Outcome("card_not_raised", "succeeds; adjustments are declined", adjustment="insufficient_funds"),
        Outcome("card_risk_normal", "succeeds, of ordinary risk", risk="normal"),
        Outcome("card_risk_elevated", "succeeds, of elevated risk", risk="elevated"),
        Outcome("card_risk_highest", "blocked, of the highest risk", "decline", "suspected_fraud", risk="highest"),
        Outcome("card_disputed", "succeeds; its first capture is disputed", disputed=True),
    )
}

AMOUNTS: dict[int, str] = {
    0: "card_ok",
    1: "card_requires_action",
    2: "card_declined",
    3: "card_declined_insufficient_funds",
    4: "card_processing_then_ok",
    5: "card_answer_lost",
    6: "card_timeout_after_effect",
    7: "card_disputed",
}


def outcome_for(token: str | None, amount: int) -> Outcome:
    """The outcome of a payment method, or of an amount without one. Raises Refusal where no table knows it."""
    if token is None:
        by_amount = AMOUNTS.get(amount % 100)
        if by_amount is None:
            raise refused("payment_method_missing", "Confirming needs a payment_method.", "payment_method")
        return OUTCOMES[by_amount]
    outcome = OUTCOMES.get(token)
    if outcome is None:
        raise refused("no_such_payment_method", f"There is no payment method {token[:64]}.", "payment_method")
    return outcome


def outcome_at(account: str, token: str | None, amount: int) -> Outcome:
    """The outcome at an account. Raises Refusal as `outcome_for` does."""
    outcome = outcome_for(token, amount)
    return outcome if outcome.only_at in (None, account) else OUTCOMES["card_ok"]


def published() -> dict[str, Any]:
    """All the tables, as JSON."""
    return {
        "tokens": [asdict(outcome) for outcome in OUTCOMES.values()],
        "amounts": {f"..{digits:02d}": token for digits, token in AMOUNTS.items()},
        "declines": {code: {"message": said, "advice": advice} for code, (said, advice) in DECLINES.items()},
        "faults": [asdict(fault) for fault in FAULTS.values()],
        "unknown_status": UNKNOWN_STATUS,
    }
