"""Wrong books, on demand: what a reconciliation must find. No event tells of these steps, and no effect is logged."""

from __future__ import annotations

from dataclasses import replace

from simulators.sandbox.changes import Change, Moment, evolved
from simulators.sandbox.payment import Payment

FORGETTABLE = ("captures", "refunds")


def hidden(payment: Payment, moment: Moment, is_hidden: bool) -> Change:
    """The API denies the payment, or shows it again."""
    return Change(evolved(payment, moment, hidden=is_hidden), ())


def duplicated(payment: Payment, moment: Moment) -> Change:
    """A second payment with the same metadata, whose movements have ids of their own."""
    copied = replace(
        payment,
        id=moment.mint("spay"),
        # The roll of payments is in the order of their creation.
        created=moment.seconds,
        authorization=payment.authorization and replace(payment.authorization, id=moment.mint("sauth")),
        adjustments=tuple(replace(each, id=moment.mint("sadj")) for each in payment.adjustments),
        captures=tuple(replace(each, id=moment.mint("scap")) for each in payment.captures),
        refunds=tuple(replace(each, id=moment.mint("sref")) for each in payment.refunds),
        disputes=(),
        fees=tuple(replace(each, id=moment.mint("sfee")) for each in payment.fees),
        due=(),
    )
    return Change(copied, ())


def falsified(
    payment: Payment,
    moment: Moment,
    amount: int | None,
    currency: str | None,
    captured: int | None,
    forget: str,
) -> Change:
    """The payment with another amount or currency, its captures with another amount, or without its movements."""
    captures = tuple(each if captured is None else replace(each, amount=captured) for each in payment.captures)
    return Change(
        evolved(
            payment,
            moment,
            amount=payment.amount if amount is None else amount,
            currency=currency or payment.currency,
            captures=() if forget == "captures" else captures,
            refunds=() if forget == "refunds" else payment.refunds,
        ),
        (),
    )
