"""The inbox as operators see it: what came, what became of it, and a callback applied once more."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.app.callbacks import Applier
from gateway.app.clock import new_id
from gateway.app.hearing import Hearing
from gateway.app.learning import TAUGHT_NOTHING, Learning
from gateway.app.queries import page_size_of
from gateway.app.requests import check_id
from gateway.app.settings import EngineSettings
from gateway.app.tokens import page_token_of, position_of
from gateway.domain.commands import Caller
from gateway.domain.errors import Busy, NotFound, Reason
from gateway.domain.movements import Movement
from gateway.domain.operating import OPERATOR_ACTION, CallbackFilter, KeptCallback
from gateway.domain.storage import AuditRecord, CallbackChange, CallbackState, Settlement, Store, TakenCallback

REPLAY = f"{OPERATOR_ACTION}CALLBACK_REPLAY"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A callback after its replay, or as it would be; `settlement` is what the payment was taught, None for nothing.

    `movements_before` are the payment's as they were. `replayed` is False where it had been APPLIED before.
    """

    callback: KeptCallback
    replayed: bool
    settlement: Settlement | None = None
    movements_before: tuple[Movement, ...] = ()


class Inbox:
    """The use cases behind ListCallbacks and ReplayCallback."""

    def __init__(
        self, store: Store, applier: Applier, hearing: Hearing, learning: Learning, settings: EngineSettings
    ) -> None:
        self._store = store
        self._applier = applier
        self._hearing = hearing
        self._learning = learning
        self._settings = settings

    async def list(self, wanted: CallbackFilter, page_size: int, page_token: str) -> tuple[Sequence[KeptCallback], str]:
        """A page, newest first, and the next page's token. Raises InvalidRequest(PAGE_TOKEN_INVALID)."""
        question, limit = f"callbacks {wanted!r}", page_size_of(page_size)
        rows = await self._store.list_callbacks(
            wanted, before_callback_id=position_of(question, page_token), limit=limit + 1
        )
        if len(rows) <= limit:
            return rows, ""
        return rows[:limit], page_token_of(question, rows[limit - 1].callback.callback_id)

    async def replay(self, caller: Caller, callback_id: str, *, dry_run: bool) -> Replayed:
        """Apply a callback once more, or see what that would do. Raises NotFound, Busy(CALLBACK_BUSY), Unavailable."""
        check_id("callback_id", callback_id)
        kept = await self._find(callback_id)
        if kept.state is CallbackState.APPLIED:
            return Replayed(kept, replayed=False)
        return await self._preview(kept) if dry_run else await self._apply(caller, kept)

    async def _apply(self, caller: Caller, kept: KeptCallback) -> Replayed:
        callback_id = kept.callback.callback_id
        audit = AuditRecord(
            audit_id=new_id("aud"),
            caller=replace(caller, tenant_id=kept.tenant_id),
            action=REPLAY,
            result=CallbackState.RECEIVED,
            provider=kept.callback.provider,
            account_id=kept.callback.account_id,
            payment_id=kept.payment_id,
            detail=f"{callback_id} was {kept.state}: {kept.note}",
        )
        taken = await self._store.replay_callback(callback_id, audit, lease_s=self._settings.lease_s)
        if taken is None:
            kept = await self._find(callback_id)
            if kept.state is CallbackState.APPLIED:
                return Replayed(kept, replayed=False)
            raise Busy(
                Reason.CALLBACK_BUSY,
                "a process is applying this callback right now; repeat the call in a moment",
                safe_to_retry=True,
                retry_after_s=1.0,
            )
        applied = await self._applier.apply(taken, known_lie=_known_lie(kept))
        settlement = applied.learned.settlement if applied.learned else None
        return Replayed(await self._find(callback_id), True, settlement, applied.movements_before)

    async def _preview(self, kept: KeptCallback) -> Replayed:
        """As `_apply`, and nothing is written."""
        taken = TakenCallback(kept.callback, kept.epoch, kept.tries + 1, CallbackState.RECEIVED)
        heard = await self._hearing.hear(taken, known_lie=_known_lie(kept))
        if heard.lesson is None:
            return Replayed(_as_changed(kept, heard.change), replayed=True)
        aggregate = heard.lesson.aggregate
        settlement = self._learning.preview(aggregate, heard.lesson.lesson)
        note = heard.change.note or ("" if settlement else TAUGHT_NOTHING)
        changed = _as_changed(kept, replace(heard.change, note=note))
        return Replayed(changed, True, settlement, aggregate.payment.facts.movements)

    async def _find(self, callback_id: str) -> KeptCallback:
        kept = await self._store.find_callback(callback_id)
        if kept is None:
            raise NotFound(Reason.CALLBACK_NOT_FOUND, f"there is no callback {callback_id}", field="callback_id")
        return kept


def _known_lie(kept: KeptCallback) -> str:
    """The contradiction that was told already."""
    return kept.note if kept.state is CallbackState.QUARANTINED else ""


def _as_changed(kept: KeptCallback, change: CallbackChange) -> KeptCallback:
    return replace(
        kept,
        state=change.state,
        note=change.note,
        tries=kept.tries + 1,
        tenant_id=change.tenant_id,
        payment_id=change.payment_id,
    )
