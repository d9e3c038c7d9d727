"""The reckoning: what billing was told and what it saw, against the database, the inbox and the provider's records.

`obol verify` checks the database and the effect log; here is what only somebody outside can know.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain.routes import AttemptOutcome
from obol.v1.payment_pb2 import CommandState
from store.routes import route_from
from tests.torture.database import Database
from tests.torture.intents import Intent, Journal
from tests.torture.processes import KILLED, TERMINATED, Process

SHOWN_MAX = 20

_OPERATIONS = """
SELECT c.rpc, c.idempotency_key, c.command_id, c.state, o.operation_id
FROM commands c JOIN operations o ON o.tenant_id = c.tenant_id AND o.command_id = c.command_id
"""
_LOG = """
SELECT l.observation_id, o.payment_id, o.version
FROM observation_log l JOIN observations o ON o.tenant_id = l.tenant_id AND o.observation_id = l.observation_id
ORDER BY l.sequence
"""


@dataclass(frozen=True)
class CommandRow:
    """A command as the database has it, with the operations that it owns."""

    command_id: str
    state: str
    operation_ids: tuple[str, ...]


async def read_commands(database: Database) -> dict[tuple[str, str], CommandRow]:
    """Every command by (rpc, key)."""
    grouped: dict[tuple[str, str], CommandRow] = {}
    for rpc, key, command_id, state, operation_id in await database.rows(_OPERATIONS):
        known = grouped.get((rpc, key))
        operations = (*(known.operation_ids if known else ()), operation_id)
        grouped[rpc, key] = CommandRow(command_id, state, operations)
    return grouped


async def read_routes(database: Database) -> Counter[str]:
    """Payments that a rule sent somewhere, and how often one left an account, by why it did."""
    counted: Counter[str] = Counter()
    for (document,) in await database.rows("SELECT route FROM payments WHERE route IS NOT NULL"):
        route = route_from(document)
        if route is not None and route.rule:
            counted["payments"] += 1
            counted.update(str(each.outcome) for each in route.attempts if each.outcome is not AttemptOutcome.CHOSEN)
    return counted


def judge_intents(
    journal: Journal, commands: Mapping[tuple[str, str], CommandRow], effects: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """One effect at most for each key; none behind a no; and every reply still has its command."""
    by_operation: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    taken_back = {effect["id"] for effect in effects if effect["kind"] == "reversal"}
    for effect in effects:
        if effect["operation"] is not None:
            by_operation[effect["operation"]].append(effect)
    for scoped, intent in journal.intents.items():
        command = commands.get(scoped)
        if command is None:
            if intent.command_id:
                yield f"I10 {_named(intent)}: was answered, and there is no such command"
            continue
        if intent.command_id not in ("", command.command_id):
            yield f"I10 {_named(intent)}: was answered as {intent.command_id}, and is {command.command_id}"
        own = [effect for operation in command.operation_ids for effect in by_operation[operation]]
        if len(own) > 1:
            yield f"I1 {_named(intent)}: has {len(own)} effects: {own}"
        # What the provider reversed before anybody saw it done has failed, by the design, though it has an effect.
        lasting = [effect for effect in own if effect["id"] not in taken_back]
        if lasting and intent.final_state == CommandState.COMMAND_STATE_FAILED:
            yield f"I3 {_named(intent)}: was answered FAILED, and has effect {lasting[0]}"
        if own and intent.calls and intent.refusals_only:
            yield f"I3 {_named(intent)}: was answered with nothing sent {intent.calls} times, and has effect {own[0]}"


def judge_records(payments: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The provider's own records, without an id of ours: our key stands in their description or reason."""
    created: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    for payment in payments:
        created[payment.get("description") or ""] += 1
        refunded.update(refund.get("reason") or "" for refund in payment.get("refunds", ()))
    for what, counts in (("payments", created), ("refunds", refunded)):
        for key, count in counts.items():
            if key and count > 1:
                yield f"I1 {key}: the provider has {count} {what} of it"


async def judge_watching(
    database: Database, seen: Sequence[tuple[str, str, int]], handled: Sequence[tuple[str, str, int]], consumer: str
) -> Iterator[str]:
    """What was watched is what there is: with a cursor the log itself, by name every one of it and in order."""
    found: list[str] = []
    log = [(str(i), str(p), int(v)) for i, p, v in await database.rows(_LOG)]
    if list(seen) != log:
        twice = [each for each, count in Counter(seen).items() if count > 1]
        missing, strange = set(log) - set(seen), set(seen) - set(log)
        place = next((n for n, (a, b) in enumerate(zip(seen, log, strict=False)) if a != b), min(len(seen), len(log)))
        found.append(
            f"I9 the watcher saw {len(seen)} observations and the log has {len(log)}: {len(twice)} came twice "
            f"{_some(twice)}, {len(missing)} never {_some(missing)}, {len(strange)} are in no log {_some(strange)}; "
            f"they part at {place}"
        )
    first = list(dict.fromkeys(handled))
    if set(first) != set(log):
        missing = set(log) - set(first)
        found.append(f"I9 the consumer got {len(first)} of {len(log)} observations, not {_some(missing)}")
    versions: dict[str, int] = {}
    for observation_id, payment_id, version in first:
        if version < versions.get(payment_id, 0):
            found.append(f"I9 the consumer got {observation_id} of {payment_id} at version {version} too late")
        versions[payment_id] = version
    decided = await database.rows(f"SELECT count(*) FROM decisions WHERE consumer = '{consumer}' AND accepted")
    if decided[0][0] != len(log):
        found.append(f"I9 the consumer has accepted {decided[0][0]} of {len(log)} observations")
    return iter(found)


async def judge_inbox(
    database: Database, acknowledged: set[str], forged: set[str], forged_accepted: set[str]
) -> Iterator[str]:
    """What got its 2xx is there, once; what was forged is not."""
    inbox = Counter(str(row[0]) for row in await database.rows("SELECT event_id FROM callbacks"))
    lost, twice = acknowledged - set(inbox), [each for each, count in inbox.items() if count > 1]
    found = []
    if lost:
        found.append(f"I8 {len(lost)} callbacks got their 2xx and are not in the inbox: {_some(lost)}")
    if twice:
        found.append(f"I8 {len(twice)} events are in the inbox more than once: {_some(twice)}")
    if forged_accepted or forged & set(inbox):
        found.append(f"forged callbacks were taken: {_some(forged_accepted | (forged & set(inbox)))}")
    return iter(found)


def judge_ends(processes: Iterable[Process], *, bystanders: frozenset[int]) -> Iterator[str]:
    """Nobody ended but by our hand. `bystanders`: exit codes that are fine all the same."""
    for process in processes:
        strange = Counter(
            code for code in process.exits if code not in (0, KILLED, TERMINATED) and code not in bystanders
        )
        if strange:
            yield f"process {process.name} ended by itself: {dict(strange)}; see {process.log}"


def _named(intent: Intent) -> str:
    return f"{intent.rpc} {intent.key} ({intent.command_id or 'never answered'}, {intent.calls} calls)"


def _some(values: Iterable[object]) -> str:
    listed = sorted(map(str, values))
    return ", ".join(listed[:SHOWN_MAX]) + (" ..." if len(listed) > SHOWN_MAX else "")
