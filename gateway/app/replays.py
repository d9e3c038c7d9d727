"""The second call with a key: the stored reply, the current view, a wait for the first call, or a refusal."""

import asyncio
from dataclasses import dataclass

from gateway.app.clock import jitter
from gateway.app.engine import Engine, Key
from gateway.app.replies import CommandReply
from gateway.app.settings import EngineSettings
from gateway.app.telemetry import Telemetry
from gateway.domain.commands import Command
from gateway.domain.errors import Busy, Conflict, Precondition, Reason, Sent
from gateway.domain.states import CommandState
from gateway.domain.storage import Store

POLL_S = 0.1
POLL_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Reopen:
    """The key's command provably had no effect: it may be claimed again, as itself."""

    command: Command


class Replays:
    """Answers repeated keys."""

    def __init__(self, store: Store, engine: Engine, telemetry: Telemetry, settings: EngineSettings) -> None:
        self._store = store
        self._engine = engine
        self._telemetry = telemetry
        self._settings = settings

    async def find(self, key: Key, request_hash: bytes, deadline_s: float | None) -> CommandReply | Reopen | None:
        """What the key answers; None where nothing is stored under it.

        Raises Conflict(IDEMPOTENCY_KEY_REUSED) for another request, Precondition(IDEMPOTENCY_KEY_EXPIRED) past the
        window, and Busy(COMMAND_IN_PROGRESS) where the first call is still running near the end of the deadline.
        """
        loop = asyncio.get_running_loop()
        wait_s = self._settings.replay_wait_s if deadline_s is None else min(self._settings.replay_wait_s, deadline_s)
        # Answer before the caller stops listening.
        give_up = loop.time() + max(0.0, wait_s - 0.2 * min(wait_s, 1.0))
        pause_s = POLL_S
        while True:
            command = await self._store.find_command(*key)
            flight = self._engine.flight(key)
            if command is None and flight is None:
                return None
            if command is not None:
                _check(command, request_hash)
                if command.state is not CommandState.SENDING:
                    return await self._answer(command)
            remaining_s = give_up - loop.time()
            if remaining_s <= 0:
                raise Busy(
                    Reason.COMMAND_IN_PROGRESS,
                    "the first call with this idempotency_key is still running; repeat it to get its reply",
                    sent=Sent.MAYBE,
                    safe_to_retry=True,
                    retry_after_s=1.0,
                )
            if flight is not None:
                await asyncio.wait((flight,), timeout=remaining_s)
            else:
                await asyncio.sleep(min(jitter(pause_s), remaining_s))
                pause_s = min(POLL_S_MAX, pause_s * 2)

    async def _answer(self, command: Command) -> CommandReply | Reopen:
        if command.state is CommandState.NOT_SENT:
            return Reopen(command)
        self._telemetry.replay(command.rpc)
        if command.reply is not None:
            return CommandReply(command.reply, replayed=True)
        aggregate = await self._store.load(command.caller.tenant_id, command.payment_id)
        if aggregate is None:
            raise LookupError(f"payment {command.payment_id} of a command is gone")
        current = next(c for c in aggregate.commands if c.command_id == command.command_id)
        return CommandReply(current.reply or self._engine.encode(current, aggregate), replayed=True)


def _check(command: Command, request_hash: bytes) -> None:
    if command.expired:
        raise Precondition(
            Reason.IDEMPOTENCY_KEY_EXPIRED,
            "this idempotency_key was used before its window ended and is never used again; "
            "read the payment to see what became of it, and take a new key for a new effect",
            details={"payment_id": command.payment_id, "command_id": command.command_id},
        )
    if command.request_hash != request_hash:
        raise Conflict(
            Reason.IDEMPOTENCY_KEY_REUSED,
            "this idempotency_key belongs to another request; take a new key for a new effect",
            field="idempotency_key",
            details={"payment_id": command.payment_id, "command_id": command.command_id},
        )
