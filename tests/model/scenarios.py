"""What is searched: the worlds, which of them shows what each switch is for, and what holds in spite of a switch."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType

from tests.model.machine import Obol
from tests.model.rules import Assumption, Rule
from tests.model.search import Found, search
from tests.model.state import Bounds, Kind

STATES_MAX = 300_000
STATES_MAX_DEEP = 3_000_000
TRACE_STEPS_MAX = 18

CREATE = Bounds(resend_age=4, key_window=6)
"""One intent to pay: a key, and a fresh one after FAILED."""

CREATE_ONE_KEY = Bounds(commands=1, resend_age=4, key_window=6)
CREATE_AS_SET = Bounds(commands=1, workers=3, flight=3, orphans=3, resend_age=5, key_window=9)
"""The durations in the order of the real settings: send window, lease, longest flight, resend age, key window."""

CREATE_LONG_MEMORY = Bounds(resend_age=2, forgets=False)
CREATE_BY_SEARCH = Bounds(resend_age=4, key_window=6, consistent=False)
CREATE_BY_SEARCH_SHORT = Bounds(commands=1, resend_age=8, key_window=4, consistent=False)
CREATE_BY_SEARCH_FORGETFUL = Bounds(commands=1, resend_age=2, key_window=4, key_window_said=10, consistent=False)
"""A search cannot tell that the first send arrived: all that makes a second one harmless is the provider's key."""

REFUND_60_60 = Bounds(kind=Kind.REFUND)
REFUND_40_40 = Bounds(kind=Kind.REFUND, amounts=(40, 40), forgets=False, resend_age=1, orphans=1)
REFUND_50_50_50 = Bounds(
    kind=Kind.REFUND, amounts=(50, 50, 50), commands=3, forgets=False, resend_age=1, orphans=0, faults=False
)
CAPTURE_60_60 = Bounds(kind=Kind.CAPTURE)

WORLDS: Mapping[str, Bounds] = MappingProxyType(
    {
        "create": CREATE,
        "create, one key": CREATE_ONE_KEY,
        "create, one key, three processes, durations in their real order": CREATE_AS_SET,
        "create, a provider that never forgets a key": CREATE_LONG_MEMORY,
        "create, a provider with a search only": CREATE_BY_SEARCH,
        "create, a search only, a key window shorter than the resend age": CREATE_BY_SEARCH_SHORT,
        "create, a search only, a key that is forgotten sooner than documented": CREATE_BY_SEARCH_FORGETFUL,
        "two refunds of 60 on 100": REFUND_60_60,
        "two refunds of 40 on 100": REFUND_40_40,
        "two captures of 60 on 100": CAPTURE_60_60,
    }
)
"""Every rule on, each searched to its end."""

DEEP: Mapping[str, Bounds] = MappingProxyType(
    {
        "create, durations in their real order": Bounds(flight=3, orphans=3, resend_age=5, key_window=9),
        "create, longer times": Bounds(send_window=2, lease=4, flight=2, resend_age=6, key_window=12),
        "create, three processes": Bounds(workers=3, orphans=3, resend_age=4, key_window=6),
        "create by search, longer times": Bounds(
            send_window=2, lease=4, flight=2, resend_age=6, key_window=12, consistent=False
        ),
        "two refunds of 60, longer times": Bounds(
            kind=Kind.REFUND, send_window=1, lease=3, flight=2, resend_age=4, key_window=8
        ),
        "two refunds of 40, a key that is forgotten": Bounds(kind=Kind.REFUND, amounts=(40, 40), orphans=1),
    }
)

_SHOWN_BY = {
    Rule.REOPEN: CREATE_ONE_KEY,
    Rule.CONSISTENT_LOOK: CREATE_BY_SEARCH,
    Rule.EVIDENCE_ONLY: CREATE_BY_SEARCH,
    Rule.RESEND_AGE: CREATE_BY_SEARCH_FORGETFUL,
    Rule.KEY_WINDOW: CREATE_BY_SEARCH_SHORT,
    Rule.RESERVATION: REFUND_60_60,
    Rule.RESERVED_WHILE_UNKNOWN: REFUND_60_60,
    Rule.CONDITIONAL_CLAIM: REFUND_60_60,
    Rule.OPERATION_ID: REFUND_40_40,
    Rule.VERSION_GUARD: REFUND_50_50_50,
}
"""The world in which a rule is missed; CREATE where none is named."""

SECOND_BELTS: Mapping[Rule, Bounds] = MappingProxyType(
    {Rule.LEASE: Bounds(commands=1, resend_age=3, key_window=5), Rule.EXCLUSIVE: CAPTURE_60_60}
)
"""Rules without which nothing breaks, as long as the others hold, and the world that was searched for it."""

HOLD_ALL_THE_SAME: Mapping[str, "Scenario"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world, which rules are off in it, and which assumptions do not hold. `live`: whether an end is asked for."""

    bounds: Bounds
    off: AbstractSet[Rule] = frozenset()
    without: AbstractSet[Assumption] = frozenset()
    live: bool = True

    def search(self, *, states_max: int = STATES_MAX) -> Found:
        """Look at every state, or until something is found."""
        return search(Obol(self.bounds, self.off, self.without), states_max=states_max, live=self.live)


def switched_off(rule: Rule) -> Scenario:
    """The world in which `rule` would be missed, without it."""
    bounds = SECOND_BELTS.get(rule) or _SHOWN_BY.get(rule, CREATE)
    # Only a key that cannot reopen is a matter of reaching an end; the rest break a promise.
    return Scenario(bounds, frozenset({rule}), live=rule is Rule.REOPEN or rule in SECOND_BELTS)


def dropped(assumption: Assumption) -> Scenario:
    """The create without `assumption`."""
    return Scenario(CREATE, without=frozenset({assumption}), live=False)


HOLD_ALL_THE_SAME = MappingProxyType(
    {
        "a fresh key after NOT_SENT, when no call with the old one is out": Scenario(
            Bounds(resend_age=4, key_window=6, waits=True), frozenset({Rule.NEVER_AFTER_NOT_SENT})
        ),
        "any key at any time, when the order was declared unique": Scenario(
            Bounds(resend_age=4, key_window=6, order_unique=True),
            frozenset({Rule.NEVER_AFTER_NOT_SENT, Rule.NEVER_AFTER_UNKNOWN, Rule.UNIQUE_KEY}),
            live=False,
        ),
        "a resend at any age, where a look sees every write": Scenario(
            CREATE, frozenset({Rule.RESEND_AGE, Rule.KEY_WINDOW})
        ),
    }
)
"""Rules that may be broken where something else holds."""

BOTH_CAPTURE_GUARDS_OFF = Scenario(CAPTURE_60_60, frozenset({Rule.EXCLUSIVE, Rule.RESERVATION}), live=False)
