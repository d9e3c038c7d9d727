"""Payment methods that explain themselves: vaulted wallets and cards, and what a payer's wallet does when it approves.

A vault id that is in neither table is unknown, and refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNDOCUMENTED_ISSUE = "QUANTUM_FLUX"


@dataclass(frozen=True)
class Method:
    """What a source does when it is charged. `issue` refuses with 422; `processor` declines as a card's processor does.

    `reauthorization` is the issue with which one is refused. `pends`: the capture waits for its funds. `refund_pends`:
    refunds of it wait.
    """

    explains: str
    issue: str = ""
    processor: str = ""
    pends: bool = False
    refund_pends: bool = False
    reauthorization: str = ""


WALLETS = {
    "wallet_ok": Method("pays"),
    "wallet_declined": Method("is declined", issue="INSTRUMENT_DECLINED"),
    "wallet_refused": Method("is refused", issue="TRANSACTION_REFUSED"),
    "wallet_unknown_issue": Method("is refused with an issue that no document has", issue=UNDOCUMENTED_ISSUE),
    "wallet_pending": Method("pays by eCheck: the capture pends until a control moves it on", pends=True),
    "wallet_empty_later": Method("pays; a re-authorization is refused", reauthorization="PAYER_CANNOT_PAY"),
    "wallet_refund_pending": Method("pays; refunds pend until a control moves them on", refund_pends=True),
}
CARDS = {
    "card_ok": Method("pays"),
    "card_insufficient_funds": Method("is declined by its processor", processor="5120"),
    "card_lost": Method("is declined by its processor", processor="9520"),
}
FUNDINGS = {
    "ok": Method("pays"),
    "declined": Method("is declined once; the payer is sent back", issue="INSTRUMENT_DECLINED"),
    "stuck": Method("is declined at every completion, and the order stays approved", issue="INSTRUMENT_DECLINED"),
    "pending": Method("pays by eCheck", pends=True),
}
"""What the payer's wallet does after the approval; the payer's page takes it as `funding`."""


def vaulted(source: dict[str, Any]) -> tuple[Method | None, bool]:
    """(A vaulted source's method, True), None for an unknown one; (None, False) where a payer has to approve."""
    wallet, card, token = source.get("paypal"), source.get("card"), source.get("token")
    if isinstance(wallet, dict) and "vault_id" in wallet:
        return WALLETS.get(str(wallet["vault_id"])), True
    if isinstance(card, dict):
        return CARDS.get(str(card.get("vault_id"))), True
    if isinstance(token, dict):
        return (Method("pays") if str(token.get("id", "")).startswith("B-") else None), True
    return None, False


def published() -> dict[str, Any]:
    """All the tables, as JSON."""
    tables = {"wallets": WALLETS, "cards": CARDS, "fundings": FUNDINGS}
    return {name: {key: vars(method) for key, method in table.items()} for name, table in tables.items()}
