"""Witnesses that believe neither gateway nor provider: what left each gateway and when, and whose word was written.

The relay in front of the provider sees every request as it leaves its gateway; a trigger in the database sees every
change of an operation's epoch. What they saw is held against claims, history and audit when the run is over:

    a request under a key that no committed claim has            a call that nobody would find again
    one before its claim, or after its last possible send        the send window
    one that a living gateway gave up before its time            a caller's leaving that cancelled a call
    an epoch that fell, a reply settled after recovery's word    the epoch fence
    NOT_SENT or FAILED written after the effect                  a false final state, also one that was mended later
"""

import hashlib
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.torture.database import Database

LATE_S = 1.0
"""The relay may be slow to look, as everything is on a full machine."""
EARLY_S = 0.05
GIVEN_UP_S_MAX = 0.75
"""A gateway waits for an answer for twice as long (ENGINE__PROVIDER_TIMEOUT_S): who hung up sooner was made to."""
SHOWN_MAX = 10
_SECOND_US = 1_000_000

_OPERATIONS = "SELECT operation_id, prepared, last_send_us, command_id, step FROM operations"
_HISTORY = "SELECT transitions, recorded_time_us FROM history ORDER BY recorded_time_us"
_REPLIES = (
    "SELECT command_id, action, recorded_time_us FROM audit WHERE action LIKE '%.API_REPLY' OR action LIKE '%.RECOVERY'"
)
EPOCHS = "torture_epochs"

TRIGGERS: Mapping[str, tuple[str, ...]] = {
    "sqlite": (
        f"CREATE TABLE IF NOT EXISTS {EPOCHS} (operation_id TEXT, before INTEGER, after INTEGER)",
        f"CREATE TRIGGER IF NOT EXISTS torture_fence AFTER UPDATE OF epoch ON operations WHEN NEW.epoch < OLD.epoch "
        f"BEGIN INSERT INTO {EPOCHS} VALUES (NEW.operation_id, OLD.epoch, NEW.epoch); END",
    ),
    "postgresql": (
        f"CREATE TABLE IF NOT EXISTS {EPOCHS} (operation_id TEXT, before BIGINT, after BIGINT)",
        f"CREATE OR REPLACE FUNCTION torture_fence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"INSERT INTO {EPOCHS} VALUES (NEW.operation_id, OLD.epoch, NEW.epoch); RETURN NULL; END $$",
        "CREATE TRIGGER torture_fence AFTER UPDATE OF epoch ON operations FOR EACH ROW "
        "WHEN (NEW.epoch < OLD.epoch) EXECUTE FUNCTION torture_fence()",
    ),
}
"""What the database is told to keep, by engine: each epoch that fell."""


@dataclass(frozen=True)
class Send:
    """A write that a gateway sent."""

    gateway: str
    request: str
    key: str
    time_us: int


@dataclass(frozen=True)
class GivenUp:
    """A write whose gateway hung up at `time_us`, without an answer and `age_s` after it was sent, and lived on."""

    gateway: str
    request: str
    key: str
    age_s: float
    time_us: int


@dataclass
class Witness:
    """What the relays saw. A write has its key in the header `key_header`, but for those of a pattern in `unkeyed`."""

    key_header: str
    unkeyed: tuple[str, ...] = ()
    sends: list[Send] = field(default_factory=list)
    given_up: list[GivenUp] = field(default_factory=list)

    def saw(self, gateway: str, request: str, head: bytes) -> None:
        """A request begins to leave `gateway`."""
        if self._writes(request):
            self.sends.append(Send(gateway, request, self._key(head), time.time_ns() // 1_000))

    def saw_given_up(self, gateway: str, request: str, head: bytes, age_s: float) -> None:
        """`gateway`, which is alive, waits no longer for the answer to a request."""
        if self._writes(request) and age_s < GIVEN_UP_S_MAX:
            self.given_up.append(GivenUp(gateway, request, self._key(head), age_s, time.time_ns() // 1_000))

    def _key(self, head: bytes) -> str:
        key = head.lower().partition(f"\n{self.key_header}:".encode())[2].partition(b"\r\n")[0].strip()
        place = head.lower().find(key) if key else 0
        return head[place : place + len(key)].decode("latin-1")

    def _writes(self, request: str) -> bool:
        return not request.startswith("GET") and not any(re.match(each, request) for each in self.unkeyed)


async def judge_sends(
    witness: Witness, database: Database, accounts: Sequence[str], effects: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Every write that left was claimed before, and left while its claim allowed it; none was cancelled.

    A create that was provably not carried out at one of `accounts` is claimed anew at another, and its row has the
    later key: what was sent under the former one must have no effect.
    """
    begun: dict[str, int] = {}
    for transitions, recorded_us in await database.rows(_HISTORY):
        for entity, entity_id, _, after in json.loads(transitions):
            if entity == "OPERATION" and after == "SENDING":
                begun.setdefault(entity_id, int(recorded_us))
    operations = await database.rows(_OPERATIONS)
    claims = {
        json.loads(prepared)[3]: (str(operation_id), last_send_us)
        for operation_id, prepared, last_send_us, *_ in operations
    }
    commands = {json.loads(prepared)[3]: str(command_id) for _, prepared, _, command_id, _ in operations}
    replied: dict[str, int] = {}
    for command_id, action, time_us in await database.rows(_REPLIES):
        if action.endswith("API_REPLY"):
            replied[command_id] = max(int(time_us), replied.get(command_id, 0))
    former = {
        key: str(operation_id)
        for operation_id, _, _, command_id, step in operations
        for key in (_key(command_id, step, account_id) for account_id in accounts)
        if key not in claims
    }
    found = [
        f"I3 {former[effect['idempotency_key']]}: went on to another account, and has an effect at {effect['account']}"
        for effect in effects
        if effect["idempotency_key"] in former
    ]
    for send in witness.sends:
        operation_id, last_send_us = claims.get(send.key, (former.get(send.key, ""), None))
        named = f"{send.gateway} {send.request!r} ({operation_id or send.key})"
        if not operation_id:
            found.append(f"I2 {named}: was sent, and no claim of it is committed")
        elif send.time_us < begun[operation_id] - EARLY_S * _SECOND_US:
            found.append(f"I2 {named}: was sent {(begun[operation_id] - send.time_us) / 1e6:.3f} s before its claim")
        elif last_send_us is not None and send.time_us > last_send_us + LATE_S * _SECOND_US:
            late_s = (send.time_us - last_send_us) / 1e6
            found.append(f"send window {named}: was sent {late_s:.3f} s after its last moment")
    found += [
        f"detached call {each.gateway} {each.request!r}: was given up {each.age_s:.3f} s after it was sent"
        for each in witness.given_up
        # Who was late to send, after a connection that took its time, has little left to wait, and settles it itself.
        if replied.get(commands.get(each.key, ""), 0) < each.time_us - EARLY_S * _SECOND_US
    ]
    return _shown(found)


def _key(command_id: str, step: int, account_id: str) -> str:
    """The provider's key, as the contract with ourselves has it: of (command, step, account)."""
    return f"obol-{hashlib.sha256(f'{command_id}/{step}/{account_id}'.encode()).hexdigest()[:40]}"


async def judge_fence(database: Database) -> Iterator[str]:
    """No holder that was relieved has settled: no epoch fell, and no reply was written after recovery's own word."""
    found = [
        f"epoch fence {operation_id}: its epoch fell from {before} to {after}"
        for operation_id, before, after in await database.rows(f"SELECT * FROM {EPOCHS}")
    ]
    owner = {str(row[0]): str(row[3]) for row in await database.rows(_OPERATIONS)}
    # A command that went on to another account has a further operation, whose reply comes when it comes.
    reopened: set[str | None] = {each for each, count in Counter(owner.values()).items() if count > 1}
    for transitions, _ in await database.rows(_HISTORY):
        for entity, entity_id, before, after in json.loads(transitions):
            if entity == "OPERATION" and (before, after) == ("NOT_SENT", "SENDING"):
                reopened.add(owner.get(entity_id))
    recovered: dict[str, int] = {}
    for command_id, action, time_us in sorted(await database.rows(_REPLIES), key=lambda row: (row[2], row[1])):
        if action.endswith("RECOVERY"):
            recovered.setdefault(command_id, int(time_us))
        elif command_id in recovered and int(time_us) > recovered[command_id] and command_id not in reopened:
            found.append(f"epoch fence {command_id}: a reply was settled after recovery had settled it ({action})")
    return _shown(found)


async def judge_moments(database: Database, effects: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """At no moment was it written that nothing was done after it was done, whatever was written later."""
    reversed_ids = {effect["id"] for effect in effects if effect["kind"] == "reversal"}
    done: dict[str, int] = {}
    for effect in effects:
        if effect["operation"] and effect["id"] not in reversed_ids:
            done.setdefault(effect["operation"], int(effect["time"]) * 1_000)
    found = []
    edges: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for transitions, recorded_us in await database.rows(_HISTORY):
        for entity, entity_id, _, after in json.loads(transitions):
            if entity == "OPERATION" and after in ("NOT_SENT", "FAILED"):
                edges[entity_id].append((int(recorded_us), after))
    for operation_id, done_us in done.items():
        for recorded_us, state in edges.get(operation_id, ()):
            if recorded_us > done_us:
                late_s = (recorded_us - done_us) / 1e6
                found.append(f"I3 {operation_id}: {state} was written {late_s:.3f} s after its effect")
    return _shown(found)


def _shown(found: list[str]) -> Iterator[str]:
    yield from found[:SHOWN_MAX]
    if len(found) > SHOWN_MAX:
        yield f"... and {len(found) - SHOWN_MAX} more like these"
