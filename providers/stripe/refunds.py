"""Which of Stripe's refunds gave back money that had been taken.

Before 2025-03-31.basil a hold that was let go, or a capture of a part, showed as a refund of what was never taken:
https://docs.stripe.com/changelog/basil/2025-03-31/remove-refund-from-partial-capture-and-payment-cancellation-flow
What was made by an older version of the API may still be read.
"""

from collections.abc import Callable, Iterator, Sequence

from providers.fields import Fields


def given_back(charges: Sequence[Fields], refunds: Sequence[Fields], held: Callable[[Fields], int]) -> Iterator[Fields]:
    """Those listed by themselves and those within their charges, as often as they come. `held`: what a charge held."""
    of = {charge.text("id"): charge for charge in charges}
    if len(charges) == 1:
        # One that names no charge, which Stripe's document allows, can be of no other.
        of[""] = charges[0]
    listed = [(each, of.get(_charge_of(each))) for each in refunds]
    for charge in charges:
        within = charge.optional("refunds")
        listed += [(each, charge) for each in (within.objects("data") if within is not None else ())]
    for refund, its in listed:
        if its is None or not _is_release(refund, its, held(its)):
            yield refund


def _charge_of(refund: Fields) -> str:
    """The id of the charge that a refund is of, "" where it has none; expanded or not."""
    value = refund.raw.get("charge")
    return Fields(value, "charge").text("id") if isinstance(value, dict) else refund.optional_text("charge")


def _is_release(refund: Fields, charge: Fields, held: int) -> bool:
    """Whether a refund is of money that was held and never taken. It has no mark of its own.

    It was done at once, and moved nothing on the balance. A refund that waits for the balance has no entry there
    either, and is not done.
    """
    if refund.texts("metadata").get("obol_operation") or refund.raw.get("balance_transaction") is not None:
        return False
    captured = charge.whole("amount_captured")
    if not captured:
        return True
    return refund.text("status") == "succeeded" and refund.whole("amount") == held - captured
