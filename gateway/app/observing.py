"""Observations for Billing: the stream from any cursor, pages, and a consumer's word on each."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from gateway.app.clock import new_id
from gateway.app.queries import page_size_of
from gateway.app.requests import check_id
from gateway.app.settings import EngineSettings
from gateway.app.tokens import cursor_of, no_such_cursor, place_of
from gateway.domain.commands import Caller
from gateway.domain.eras import LogEnd, Place, resumed
from gateway.domain.errors import InvalidRequest, NotFound, Precondition, Reason
from gateway.domain.observations import Observation
from gateway.domain.storage import AuditRecord, Consumer, Decision, DecisionOutcome, Store

DECISIONS_MAX = 500
REJECTION_CHARACTERS_MAX = 500
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 500

_CONSUMER = re.compile(r"[a-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Told:
    """An observation, and the cursor after it."""

    observation: Observation
    cursor: str


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life on a stream; everything up to `cursor` was sent."""

    cursor: str


class Observing:
    """The use cases behind BillingObservation; a tenant sees its own."""

    def __init__(self, store: Store, settings: EngineSettings) -> None:
        self._store = store
        self._settings = settings

    async def watch(self, caller: Caller, consumer: str, cursor: str) -> AsyncIterator[Told | Beat]:
        """What follows `cursor`, in order, then what comes; a Beat after each quiet `heartbeat_s`.

        Holds one page at a time, and reads the next only when the last was taken: a slow consumer costs a page.
        Raises InvalidRequest(CURSOR_INVALID).
        """
        # The end, with its era, is read before the page: what is numbered in between is waited for, not overlooked, and
        # what a restore turns back in between comes again.
        end = await self._store.log_end()
        after = await self._start(caller, consumer, cursor, end)
        yield Beat(cursor_of(caller.tenant_id, after, end.era))
        while True:
            page = await self._store.read_observations(
                caller.tenant_id, after_sequence=after, limit=self._settings.watch_page
            )
            for observation in page:
                yield _told(observation, end)
                after = observation.sequence
            if len(page) < self._settings.watch_page:
                after = max(after, end.last_sequence)
                await self._store.wait_for_observations(after, timeout_s=self._settings.heartbeat_s)
            before, end = end, await self._store.log_end()
            if not end.era.is_of(before.era):
                after = await self._after(Place(after, before.era), end)
            elif not page and end.last_sequence <= after:
                yield Beat(cursor_of(caller.tenant_id, after, end.era))

    async def list(self, caller: Caller, cursor: str, page_size: int, payment_id: str) -> tuple[Sequence[Told], str]:
        """A page after `cursor` and the cursor to read on from. Raises InvalidRequest(CURSOR_INVALID)."""
        end = await self._store.log_end()
        after = await self._after(place_of(caller.tenant_id, cursor), end)
        limit = page_size_of(page_size, default=PAGE_SIZE_DEFAULT, most=PAGE_SIZE_MAX)
        page = await self._store.read_observations(
            caller.tenant_id, after_sequence=after, limit=limit, payment_id=payment_id
        )
        told = [_told(observation, end) for observation in page]
        return told, told[-1].cursor if told else cursor_of(caller.tenant_id, after, end.era)

    async def get(self, caller: Caller, observation_id: str) -> Told:
        """Raises NotFound(OBSERVATION_NOT_FOUND)."""
        check_id("observation_id", observation_id)
        end = await self._store.log_end()
        observation = await self._store.get_observation(caller.tenant_id, observation_id)
        if observation is None:
            raise _no_observation(observation_id)
        return _told(observation, end)

    async def accept(self, caller: Caller, consumer: str, observation_ids: Sequence[str]) -> int:
        """How many are newly accepted. Raises NotFound, Precondition(OBSERVATION_DECIDED_OTHERWISE); all or nothing."""
        decisions = [Decision(observation_id, accepted=True) for observation_id in observation_ids]
        return await self._decide(caller, consumer, decisions, "observation_ids")

    async def reject(self, caller: Caller, consumer: str, rejections: Sequence[tuple[str, str]]) -> int:
        """How many are newly rejected; each needs a reason. Errors as for `accept`."""
        for _, reason in rejections:
            if not 1 <= len(reason) <= REJECTION_CHARACTERS_MAX:
                raise InvalidRequest(
                    Reason.FIELD_INVALID,
                    f"rejections.reason: must be 1 to {REJECTION_CHARACTERS_MAX} characters",
                    field="rejections.reason",
                )
        decisions = [Decision(observation_id, accepted=False, reason=reason) for observation_id, reason in rejections]
        return await self._decide(caller, consumer, decisions, "rejections")

    async def consumer(self, caller: Caller, name: str) -> tuple[Consumer, str]:
        """Where it stands, and the cursor of what it has decided. Raises NotFound(CONSUMER_NOT_FOUND)."""
        _check_consumer(name)
        end = await self._store.log_end()
        consumer = await self._store.get_consumer(caller.tenant_id, name)
        if consumer is None:
            raise NotFound(
                Reason.CONSUMER_NOT_FOUND, f"consumer {name} has not watched or decided yet", field="consumer"
            )
        return consumer, cursor_of(caller.tenant_id, consumer.decided_through, end.era)

    async def _start(self, caller: Caller, consumer: str, cursor: str, end: LogEnd) -> int:
        if consumer:
            _check_consumer(consumer)
            await self._store.ensure_consumer(caller.tenant_id, consumer)
        if cursor or not consumer:
            return await self._after(place_of(caller.tenant_id, cursor), end)
        standing = await self._store.get_consumer(caller.tenant_id, consumer)
        return standing.decided_through if standing else 0

    async def _after(self, place: Place, end: LogEnd) -> int:
        """The number after which whoever stands at `place` reads on; it is asked for restores only where one came."""
        turns = () if place.era.is_of(end.era) else await self._store.turns()
        after = resumed(place, end, turns)
        if after is None:
            raise no_such_cursor()
        return after

    async def _decide(self, caller: Caller, consumer: str, decisions: Sequence[Decision], field: str) -> int:
        _check_consumer(consumer)
        if not 1 <= len(decisions) <= DECISIONS_MAX:
            raise InvalidRequest(Reason.FIELD_INVALID, f"{field}: must have 1 to {DECISIONS_MAX} entries", field=field)
        unique = tuple({decision.observation_id: decision for decision in decisions}.values())
        audit = AuditRecord(
            audit_id=new_id("aud"),
            caller=caller,
            action="ACCEPT" if unique[0].accepted else "REJECT",
            result="DECIDED",
            detail=f"{consumer}: {len(unique)}",
        )
        outcomes = await self._store.decide(caller, consumer, unique, audit)
        for decision, outcome in zip(unique, outcomes, strict=True):
            if outcome is DecisionOutcome.MISSING:
                raise _no_observation(decision.observation_id)
            if outcome is DecisionOutcome.CONFLICT:
                raise Precondition(
                    Reason.OBSERVATION_DECIDED_OTHERWISE,
                    f"{consumer} has decided {decision.observation_id} the other way; a decision stands",
                    field=field,
                    details={"observation_id": decision.observation_id},
                )
        return sum(outcome is DecisionOutcome.RECORDED for outcome in outcomes)


def _told(observation: Observation, end: LogEnd) -> Told:
    return Told(observation, cursor_of(observation.tenant_id, observation.sequence, end.era))


def _check_consumer(name: str) -> None:
    if not _CONSUMER.fullmatch(name):
        raise InvalidRequest(
            Reason.FIELD_INVALID, "consumer: must be 1 to 100 characters of [a-z0-9_.-]", field="consumer"
        )


def _no_observation(observation_id: str) -> NotFound:
    return NotFound(
        Reason.OBSERVATION_NOT_FOUND,
        f"there is no observation {observation_id} for this tenant",
        field="observation_id",
    )
