"""One create over two providers, in small: every order of answers, losses, crashes, late payers and two that carry on.

`tests.model.machine` has what one provider can do to one operation; here a request has simply not landed yet, landed,
or been lost, and what is asked is when a second provider may be asked. The rules are switches, as there.
"""

from collections.abc import Hashable, Iterator
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import NamedTuple

from gateway.domain.states import CommandState
from tests.model.search import Step

CARRIERS = 2
EFFECTS_MAX = 2

SENDING, UNKNOWN, NOT_SENT = CommandState.SENDING, CommandState.UNKNOWN, CommandState.NOT_SENT
FAILED, SUCCEEDED = CommandState.FAILED, CommandState.SUCCEEDED


class FailoverRule(StrEnum):
    """A rule of ADR 0016, and where the code keeps it."""

    NEVER_AFTER_MAYBE = "app/commands.py: only NothingSent goes on to the next account"
    NOT_AFTER_UNKNOWN = "app/leaving.py _may_leave: the command was still SENDING"
    CANCELLED_FIRST = "app/failover.py _step: cancelled_at before _go_on"
    CONFIRMED_BY_FACTS = "app/leaving.py cancelled_at: the provider's object, not the cancellation's answer"
    MONEY_STAYS = "app/leaving.py route_after: money at the account ends the failover there"
    ONE_NEXT_STEP = "store claim_next_step: the payment's version, and the step's unique key"


class Place(StrEnum):
    """What the first provider's books hold."""

    NOTHING = "nothing"
    OPEN = "declined, open"
    CANCELLED = "cancelled"
    PAID = "paid"


class Try(NamedTuple):
    """An operation at a provider: as we know it, and whether its request is still on its way."""

    state: CommandState | None = None
    flies: bool = False


class World(NamedTuple):
    """Everything at one moment. `decided`: carriers that have read that the next step may be taken."""

    first: Try = Try()
    book: Place = Place.NOTHING
    moving: bool = False
    cancel_flies: bool = False
    cancel_told: bool = False
    confirmed: bool = False
    decided: int = 0
    seconds: tuple[Try, ...] = ()
    paid_there: int = 0


Next = Step[World]


class TwoProviders:
    """The create, with the rules that are on."""

    def __init__(self, off: AbstractSet[FailoverRule] = frozenset()) -> None:
        self._rules = frozenset(FailoverRule) - off

    def start(self) -> World:
        return World()

    def steps(self, world: World) -> Iterator[Next]:
        yield from self._first(world)
        yield from self._payer(world)
        yield from self._carrying(world)
        for number, second in enumerate(world.seconds):
            yield from self._second(world, number, second)

    def plain(self, state: World) -> World:
        return state

    def likeness(self, state: World) -> Hashable:
        return state

    def wrong(self, state: World) -> str:
        effects = (state.book is Place.PAID) + state.paid_there
        if effects > 1:
            return f"DOUBLE EFFECT: one intent, paid {effects} times"
        if any(second.state is SUCCEEDED for second in state.seconds) and not state.paid_there:
            return "FALSE FINAL: SUCCEEDED, and there is no effect"
        return ""

    def good(self, state: World) -> bool:
        last = state.seconds[-1] if state.seconds else state.first
        return not state.moving and last.state in (FAILED, SUCCEEDED)

    # The first provider

    def _first(self, world: World) -> Iterator[Next]:
        first = world.first
        if first.state is None:
            yield Step("the create is claimed at A and sent", False, world._replace(first=Try(SENDING, flies=True)))
            yield Step("the create is claimed at A, and nothing was sent", True, world._replace(first=Try(NOT_SENT)))
        if first.flies:
            yield from self._lands_at_first(world)
        if first.state is SENDING and not first.flies:
            yield Step("the answer of A is lost: UNKNOWN", True, world._replace(first=Try(UNKNOWN)))
        if first.state is SENDING and first.flies:
            lost = world._replace(first=Try(UNKNOWN, flies=True))
            yield Step("no answer of A in time: UNKNOWN, and the request is on its way", True, lost)
        if first.state in (UNKNOWN, SENDING) and not first.flies:
            yield from self._look_at_first(world)
        if first.state is NOT_SENT and not world.seconds:
            yield self._begun(world, "A provably got nothing: the same key goes on to B")
        if first.state is UNKNOWN and not world.seconds and FailoverRule.NEVER_AFTER_MAYBE not in self._rules:
            yield self._begun(world, "A may have got it: the same key goes on to B")

    def _lands_at_first(self, world: World) -> Iterator[Next]:
        heard = world.first.state is SENDING
        paid = world._replace(book=Place.PAID, first=Try(SUCCEEDED if heard else UNKNOWN))
        yield Step("A takes the payment", False, paid)
        yield Step("A takes the payment, and its answer is lost", True, paid._replace(first=Try(UNKNOWN)))
        declined = world._replace(book=Place.OPEN, first=Try(FAILED if heard else UNKNOWN))
        told = declined._replace(moving=heard)
        yield Step("A declines softly; its object is open", False, told)
        yield Step("A declines softly, and its answer is lost", True, declined._replace(first=Try(UNKNOWN)))
        if heard:
            yield Step("A declines, and we die before it is settled", True, declined._replace(first=Try(SENDING)))
        yield Step("the request to A is lost", True, world._replace(first=Try(UNKNOWN)))

    def _look_at_first(self, world: World) -> Iterator[Next]:
        match world.book:
            case Place.PAID:
                yield Step("a look at A: paid", False, world._replace(first=Try(SUCCEEDED)))
            case Place.NOTHING:
                yield Step("a look at A: it never had it", False, world._replace(first=Try(FAILED)))
            case Place.OPEN | Place.CANCELLED:
                told = world.first.state is UNKNOWN and FailoverRule.NOT_AFTER_UNKNOWN in self._rules
                found = world._replace(first=Try(FAILED), moving=not told and not world.seconds)
                yield Step("a look at A: declined", False, found)

    def _payer(self, world: World) -> Iterator[Next]:
        if world.book is Place.OPEN:
            yield Step("the payer, still on A's page, pays there", True, world._replace(book=Place.PAID))

    # Carrying on

    def _carrying(self, world: World) -> Iterator[Next]:
        if world.cancel_flies:
            yield from self._cancel_lands(world)
        if not world.moving:
            return
        if not world.cancel_flies and not world.confirmed:
            yield Step("a carrier sends the cancellation to A", False, world._replace(cancel_flies=True))
            cancelled = world.book is Place.CANCELLED
            yield Step("a carrier looks at A", False, self._seen(world._replace(confirmed=cancelled)))
        if world.decided < CARRIERS and self._may_go_on(world):
            yield Step("a carrier reads that B may be asked", False, world._replace(decided=world.decided + 1))
        if world.decided:
            yield Step("a carrier dies", True, world._replace(decided=world.decided - 1))
            yield from self._claims(world._replace(decided=world.decided - 1))
        yield Step("the failover takes too long, and ends with the decline", False, world._replace(moving=False))

    def _cancel_lands(self, world: World) -> Iterator[Next]:
        landed = world._replace(cancel_flies=False)
        if world.book is Place.OPEN:
            landed = landed._replace(book=Place.CANCELLED)
            yield Step("A cancels, and says so", False, landed._replace(confirmed=True, cancel_told=True))
            yield Step("A cancels, and its answer is lost", True, landed)
        else:
            yield Step(f"A refuses to cancel what is {world.book}", False, self._seen(landed))
        # An answer is not the object: a queue, or a proxy, that said 202 and forgot it.
        yield Step("the cancellation is accepted, and lost", True, world._replace(cancel_flies=False, cancel_told=True))

    def _seen(self, world: World) -> World:
        """What a look at the object teaches: money there ends the failover."""
        if world.book is Place.PAID and FailoverRule.MONEY_STAYS in self._rules:
            return world._replace(first=Try(SUCCEEDED), moving=False)
        return world

    def _may_go_on(self, world: World) -> bool:
        if FailoverRule.CANCELLED_FIRST not in self._rules:
            return True
        by_facts = FailoverRule.CONFIRMED_BY_FACTS in self._rules
        if FailoverRule.MONEY_STAYS not in self._rules and world.book is Place.PAID:
            return True
        return world.confirmed if by_facts else world.confirmed or world.cancel_told

    def _claims(self, world: World) -> Iterator[Next]:
        if world.seconds and FailoverRule.ONE_NEXT_STEP in self._rules:
            yield Step("a carrier's claim at B finds the payment changed", False, world)
        elif len(world.seconds) < CARRIERS:
            yield self._begun(world, "a carrier claims the next step at B, and sends")

    def _begun(self, world: World, text: str) -> Next:
        moved = world.moving and FailoverRule.ONE_NEXT_STEP not in self._rules and not world.seconds
        seconds = (*world.seconds, Try(SENDING, flies=True))
        return Step(text, False, world._replace(seconds=seconds, moving=moved))

    # The second provider

    def _second(self, world: World, number: int, second: Try) -> Iterator[Next]:
        def now(state: CommandState, *, flies: bool = False, paid: bool = False) -> World:
            seconds = (*world.seconds[:number], Try(state, flies), *world.seconds[number + 1 :])
            return world._replace(seconds=seconds, paid_there=min(EFFECTS_MAX, world.paid_there + paid))

        if second.flies:
            heard = second.state is SENDING
            yield Step("B takes the payment", False, now(SUCCEEDED if heard else UNKNOWN, paid=True))
            yield Step("B takes the payment, and its answer is lost", True, now(UNKNOWN, paid=True))
            yield Step("B declines", False, now(FAILED if heard else UNKNOWN))
            yield Step("the request to B is lost", True, now(UNKNOWN))
            if heard:
                yield Step("no answer of B in time", True, now(UNKNOWN, flies=True))
                yield Step("nothing was sent to B", True, now(NOT_SENT))
        elif second.state is UNKNOWN:
            yield Step("a look at B", False, now(SUCCEEDED if world.paid_there else FAILED))
        elif second.state is NOT_SENT:
            yield Step("the same key tries B again", False, now(SENDING, flies=True))
