"""What a provider account lets be done to an authorization that stands, as data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdjustmentTerms:
    """How an authorization can be adjusted while nothing of it is captured. It is never lowered.

    `raises_amount`: to a higher total. `extends_validity`: it is valid anew from then on, also at the same total.
    The rest is what the provider documents, for people and programs to know beforehand: the provider decides.
    `total_percent_max`: of the first total, None where it says nothing. `times_max`: attempts, declined ones included.
    `from_s` and `until_s`: the time since the first authorization in which it can be done.
    """

    raises_amount: bool
    extends_validity: bool
    total_percent_max: int | None = None
    times_max: int | None = None
    from_s: int = 0
    until_s: int | None = None
