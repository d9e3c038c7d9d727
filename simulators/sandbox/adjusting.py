"""Adjusting a hold before anything is captured: to a higher total, or to the same one, valid anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simulators.effects import effect_of
from simulators.sandbox.changes import Change, Moment, bounded, evolved, with_due, without_due
from simulators.sandbox.outcomes import AMOUNTS, DECLINES, OUTCOMES, outcome_for
from simulators.sandbox.payment import Adjustment, Payment
from simulators.sandbox.refusals import declined, refused


def adjusted(payment: Payment, moment: Moment, total: int, key: str | None, metadata: Mapping[str, str]) -> Change:
    """Hold `total` instead. Its last two digits decide where they decline, then the payment method.

    Raises Refusal `payment_not_adjustable`, `amount_too_small`, or the decline's code: then nothing has changed.
    """
    held = payment.authorization
    if payment.status != "authorized" or held is None or payment.captures:
        raise refused("payment_not_adjustable", f"A payment that is {payment.status} cannot be adjusted.")
    if total < held.amount_capturable:
        raise refused("amount_too_small", f"{held.amount_capturable} is held already.", "amount")
    bounded("adjustments", len(payment.adjustments))
    by_amount = OUTCOMES[AMOUNTS[total % 100]].decline if total % 100 in AMOUNTS else None
    code = by_amount or outcome_for(payment.payment_method, payment.amount).adjustment
    if code is not None:
        raise declined(code, *DECLINES[code])
    lasts = moment.terms.authorization_seconds
    made = Adjustment(moment.mint("sadj"), total, int(moment.now + lasts), metadata, moment.seconds, key)
    anew = replace(payment, due=without_due(payment, held.id))
    after = evolved(
        anew,
        moment,
        authorization=replace(held, amount_capturable=total),
        adjustments=(*payment.adjustments, made),
        due=with_due(anew, moment, lasts, "expire", held.id),
    )
    effect = effect_of("authorization", payment, made.id, total, "request", metadata, key)
    return Change(after, ("payment.updated",), (effect,))
