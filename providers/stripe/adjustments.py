"""Our increments of an authorization, read from a PaymentIntent's metadata; amounts in Stripe's units.

An increment writes its entry and the new amount in one step, or neither. So an entry whose way leads on to the present
amount is evidence; anything else (a gap, another end) says that somebody changed the amount beside us.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.domain.movements import Movement, MovementStatus
from providers.stripe.currencies import to_minor
from providers.stripe.requests import OUR_PREFIX

DIGITS_MAX = 12


@dataclass(frozen=True, slots=True)
class Adjusted:
    """One increment of ours: what was held before it, and in all after it."""

    operation_id: str
    held: int
    total: int


def adjustments_of(metadata: Mapping[str, str]) -> Sequence[Adjusted]:
    """Every entry of an increment, in the order of their totals, which only rise."""
    found = []
    for name, text in metadata.items():
        what, *amounts = text.split(" ")
        if not name.startswith(OUR_PREFIX) or what != "adjust" or len(amounts) != 2:
            continue
        if all(each.isascii() and each.isdecimal() and len(each) <= DIGITS_MAX for each in amounts):
            held, total = map(int, amounts)
            found.append(Adjusted(name.removeprefix(OUR_PREFIX), held, total))
    return sorted(found, key=lambda each: (each.total, each.held, each.operation_id))


def breaks(adjustments: Sequence[Adjusted], amount: int) -> str:
    """How they fail to lead, each from the one before it, to `amount`; empty where they do, or there are none."""
    if not adjustments:
        return ""
    ends = [*(each.held for each in adjustments[1:]), amount]
    if all(each.held < each.total == end for each, end in zip(adjustments, ends, strict=True)):
        return ""
    return f"{', '.join(f'{each.held} to {each.total}' for each in adjustments)} is not {amount}"


def holds(hold: Movement, adjustments: Sequence[Adjusted]) -> Iterator[Movement]:
    """The authorization; and each that an adjustment put in the former one's place, the last one as `hold` stands."""
    stages = [hold]
    for each in adjustments:
        former = stages[-1]
        stages[-1:] = [
            replace(former, status=MovementStatus.RELEASED, amount_minor=to_minor(each.held, hold.currency)),
            replace(
                hold,
                provider_movement_id=f"{hold.provider_movement_id}/{each.operation_id}",
                amount_minor=to_minor(each.total, hold.currency),
                operation_id=each.operation_id,
                provider_time_us=None,
                parent_id=former.provider_movement_id,
            ),
        ]
    yield from stages
