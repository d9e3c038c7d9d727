"""Everything that can happen next: the caller, the processes, the provider, the network, time and misfortune."""

from collections.abc import Hashable, Iterator
from collections.abc import Set as AbstractSet

from gateway.domain.states import FINAL_COMMAND_STATES, CommandState
from tests.model.database import Database
from tests.model.promises import broken, resolved
from tests.model.rules import Assumption, Rule
from tests.model.search import Step
from tests.model.state import IDLE, Bounds, Kind, Orphan, Outcome, Phase, Row, State, Worker

EFFECTS_MAX = 2
NAMES = "ABCD"
TICK = "—— a tick passes ——"

Next = Step[State]


class Obol:
    """One payment's commands, with the rules that are on and the assumptions that hold."""

    def __init__(
        self, bounds: Bounds, off: AbstractSet[Rule] = frozenset(), without: AbstractSet[Assumption] = frozenset()
    ) -> None:
        self._bounds = bounds
        self._rules = frozenset(Rule) - off
        self._assumed = frozenset(Assumption) - without
        self._database = Database(self._rules, bounds)
        self._names = {
            number: f"command k{number + 1}" if bounds.kind is Kind.CREATE else f"{bounds.kind} r{number + 1}"
            for number in range(bounds.commands)
        }
        self._fenced = {Rule.EPOCH_FENCE, Rule.START_RESEND_FENCE} <= self._rules
        self._resends_end = bool({Rule.RESEND_AGE, Rule.KEY_WINDOW} & self._rules)
        self._memory_after_effect = bounds.key_window if Assumption.KEYS_ARE_KEPT in self._assumed else 1

    def start(self) -> State:
        return State((Row(),) * self._bounds.commands, (IDLE,) * self._bounds.workers)

    def steps(self, state: State) -> Iterator[Next]:
        every = self._steps(state)
        return every if self._bounds.faults else (step for step in every if not step.fault)

    def _steps(self, state: State) -> Iterator[Next]:
        yield from self._caller(state)
        for number, worker in enumerate(state.workers):
            if worker.phase is not Phase.IDLE:
                yield from self._process(state, number, worker)
        yield from self._recovery(state)
        yield from self._evidence(state)
        for number, orphan in enumerate(state.orphans):
            yield from self._orphan(state, number, orphan)
        yield from self._time(state)

    def wrong(self, state: State) -> str:
        return broken(state, self._bounds)

    def good(self, state: State) -> bool:
        return resolved(state, self._bounds)

    def plain(self, state: State) -> State:
        """Who lost its fence can only end, and has ended; the key of an ended command is not needed any more."""
        rows, workers, orphans, key, stray, sums = state
        if self._fenced and any(not w.holds and w.phase in _HARMLESS_UNHELD for w in workers):
            workers = tuple([IDLE if not w.holds and w.phase in _HARMLESS_UNHELD else w for w in workers])
        if any(row.memory and row.state in FINAL_COMMAND_STATES for row in rows):
            busy = {worker.row for worker in workers} | {orphan.row for orphan in orphans}
            rows = tuple(
                row._replace(memory=0) if row.state in FINAL_COMMAND_STATES and number not in busy else row
                for number, row in enumerate(rows)
            )
        if rows is state.rows and workers is state.workers:
            return state
        return State(rows, workers, orphans, key, stray, sums)

    def likeness(self, state: State) -> Hashable:
        """Processes are interchangeable, and so are the requests on their way."""
        rows, workers, orphans, key, stray, sums = state
        return rows, tuple(sorted(workers)), tuple(sorted(orphans)), key, stray, sums

    # ------------------------------------------------------------------------------------------------- the caller

    def _caller(self, state: State) -> Iterator[Next]:
        fresh = self._bounds.kind is Kind.CREATE and self._bounds.commands > 1 and state.key == 0
        if fresh and self._may_pay_again(state.rows[0]):
            was = state.rows[0].state
            yield Step(f"the caller was told {was} and takes a fresh key, k2", False, state._replace(key=1))
            if was is CommandState.FAILED or not self._bounds.waits:
                told = f"the caller was told {was} and takes a fresh key, k2, while another call with k1 is still out"
                yield Step(told, True, state._replace(key=1, stray=True))
        idle = next((n for n, worker in enumerate(state.workers) if worker.phase is Phase.IDLE), None)
        if idle is None:
            return
        for row in self._called(state):
            yield from self._call(state, row, idle)

    def _called(self, state: State) -> Iterator[int]:
        """Whose keys can arrive in a call; repeats come at any time, and answer without a step what is stored."""
        if self._bounds.kind is not Kind.CREATE:
            yield from range(self._bounds.commands)
            return
        if state.key == 0 or state.stray:
            yield 0
        if state.key == 1:
            yield 1

    def _call(self, state: State, row: int, idle: int) -> Iterator[Next]:
        name, process = self._names[row], NAMES[idle]
        if Rule.UNIQUE_KEY not in self._rules and state.rows[0].state is not None and state.rows[-1].state is None:
            second = self._database.claim(state, 1, idle)
            if second is not None:
                yield Step(f"the caller repeats its call; {process} claims it as another command", False, second)
        if Rule.CLAIM_BEFORE_CALL not in self._rules and state.rows[row].state is None:
            ready = _with(state, idle, Worker(Phase.READY, row, left=self._bounds.send_window))
            yield Step(f"a call for {name}; {process} will send first and claim later", False, ready)
            return
        if Rule.CONDITIONAL_CLAIM not in self._rules and self._bounds.kind is not Kind.CREATE:
            if state.rows[row].state is None and self._database.has_room(state, row):
                planned = _with(state, idle, Worker(Phase.PLANNED, row))
                yield Step(f"a call for {name}; {process} reads that the amount fits", False, planned)
            return
        claimed = self._database.claim(state, row, idle)
        if claimed is not None:
            verb = "claims" if state.rows[row].state is None else "reopens"
            yield Step(f"a call for {name}; {process} {verb} it: SENDING", False, claimed)
            lost = _with(claimed, idle, IDLE)
            yield Step(f"a call for {name}; {process} {verb} it, and the COMMIT's answer is lost", True, lost)

    def _may_pay_again(self, row: Row) -> bool:
        if row.state is CommandState.UNKNOWN:
            return Rule.NEVER_AFTER_UNKNOWN not in self._rules
        if row.state is CommandState.NOT_SENT:
            return Rule.NEVER_AFTER_NOT_SENT not in self._rules
        return row.state is CommandState.FAILED

    # ---------------------------------------------------------------------------------------------- the processes

    def _process(self, state: State, number: int, worker: Worker) -> Iterator[Next]:
        yield self._crash(state, number, worker)
        name = f"{NAMES[number]}, {self._names[worker.row]}:"
        match worker.phase:
            case Phase.PLANNED:
                claimed = self._database.claim(state, worker.row, number, planned=True)
                if claimed is None:
                    yield Step(f"{name} the key is taken", False, _with(state, number, IDLE))
                else:
                    yield Step(f"{name} claims by what it read: SENDING", False, claimed)
            case Phase.READY | Phase.CHECKED:
                yield from self._ready(state, number, worker, name)
            case Phase.WAITING:
                yield from self._waiting(state, number, worker, name)
            case Phase.ANSWERED:
                yield from self._answered(state, number, worker, name)
            case Phase.TAKEN:
                yield from self._taken(state, number, worker, name)
            case Phase.ABSENT:
                yield from self._absent(state, number, worker, name)
            case Phase.IDLE:
                pass

    def _crash(self, state: State, number: int, worker: Worker) -> Next:
        where = "waits" if worker.phase is Phase.WAITING else f"is {worker.phase}"
        text = f"{NAMES[number]} crashes while it {where} ({self._names[worker.row]})"
        if worker.phase is Phase.WAITING:
            state = self._orphaned(state, worker)
        return Step(text, True, _with(state, number, IDLE))

    def _ready(self, state: State, number: int, worker: Worker, name: str) -> Iterator[Next]:
        late = worker.left == 0 and Rule.SEND_WINDOW in self._rules and worker.phase is Phase.READY
        not_sent = _with(state, number, _ended(worker, Outcome.NOT_SENT))
        yield Step(f"{name} {'too late to send' if late else 'no connection'}: NotSent", not late, not_sent)
        if late:
            return
        again = "sends again" if worker.resend else "sends"
        if Assumption.CHECK_IS_SEND not in self._assumed and worker.phase is Phase.READY:
            checked = _with(state, number, worker._replace(phase=Phase.CHECKED))
            yield Step(f"{name} finds the send window open, and is stopped", False, checked)
            return
        sent = _with(state, number, worker._replace(phase=Phase.WAITING, left=self._bounds.flight))
        yield Step(f"{name} {again}", False, sent)
        if Assumption.NO_DUPLICATES not in self._assumed:
            doubled = sent._replace(orphans=(*sent.orphans, Orphan(worker.row, self._bounds.flight)))
            yield Step(f"{name} {again}, and something on the way repeats the request", True, doubled)

    def _waiting(self, state: State, number: int, worker: Worker, name: str) -> Iterator[Next]:
        def heard(after: State, outcome: Outcome) -> State:
            return _with(after, number, _ended(worker, outcome))

        booked, what = self._executed(state, worker.row)
        yield Step(f"{name} the provider {what}, and the answer arrives", False, heard(booked, Outcome.ANSWERED))
        yield Step(f"{name} the provider {what}, and the answer is lost", True, heard(booked, Outcome.AMBIGUOUS))
        yield Step(f"{name} the provider declines", False, heard(state, Outcome.DECLINED))
        yield Step(f"{name} the provider does not execute it (401, 429)", True, heard(state, Outcome.NOT_EXECUTED))
        yield Step(f"{name} the request is lost", True, heard(state, Outcome.AMBIGUOUS))
        if len(state.orphans) < self._bounds.orphans:
            given_up = heard(self._orphaned(state, worker), Outcome.AMBIGUOUS)
            yield Step(f"{name} no answer in time; the request is still on its way", True, given_up)

    def _answered(self, state: State, number: int, worker: Worker, name: str) -> Iterator[Next]:
        settled = self._database.settle(state, number)
        before, after = state.rows[worker.row].state, settled.rows[worker.row].state
        if not worker.holds and settled.rows == state.rows:
            told = "lost its fence, and leaves evidence"
        else:
            told = (
                f"settles {worker.outcome}: {after}" if before is not after else f"settles {worker.outcome}: no change"
            )
        yield Step(f"{name} {told}", False, settled)
        if settled.rows != state.rows:
            yield Step(f"{name} {told}; the COMMIT's answer is lost", True, _with(settled, number, worker))

    def _taken(self, state: State, number: int, worker: Worker, name: str) -> Iterator[Next]:
        unreadable = _with(state, number, _ended(worker, Outcome.NOTHING))
        yield Step(f"{name} the look fails", True, unreadable)
        absent = _with(state, number, worker._replace(phase=Phase.ABSENT))
        if self._shown(state, worker.row):
            found = _with(state, number, _ended(worker, Outcome.FOUND))
            yield Step(f"{name} looks, and finds it", False, found)
            if not self._bounds.consistent or Assumption.LOOKS_ARE_CONSISTENT not in self._assumed:
                yield Step(f"{name} looks, and the search does not show it yet", True, absent)
        else:
            yield Step(f"{name} looks, and it is absent", False, absent)

    def _absent(self, state: State, number: int, worker: Worker, name: str) -> Iterator[Next]:
        later = _with(state, number, _ended(worker, Outcome.NOTHING))
        if worker.young or not self._resends_end:
            resending = self._database.start_resend(state, number)
            if resending is None:
                yield Step(f"{name} may not resend: it holds it no more", False, _with(state, number, IDLE))
                return
            yield Step(f"{name} start_resend", False, resending)
            lost = _with(resending, number, IDLE)
            yield Step(f"{name} start_resend, and the COMMIT's answer is lost", True, lost)
            yield Step(f"{name} is not admitted", True, later)
            return
        if not self._bounds.consistent and Rule.CONSISTENT_LOOK in self._rules:
            yield Step(f"{name} absent by a search says nothing", False, later)
            return
        counts = worker.absence_counts if Rule.LOOK_BEGUN in self._rules else not state.rows[worker.row].quiet
        if counts or Rule.LONGEST_FLIGHT not in self._rules:
            yield Step(f"{name} concludes that it never was executed", False, _with(state, number, _never(worker)))
        else:
            yield Step(f"{name} the last send may still be on its way", False, later)

    # --------------------------------------------------------------------- what recovers, what arrives, and time

    def _recovery(self, state: State) -> Iterator[Next]:
        idle = next((n for n, worker in enumerate(state.workers) if worker.phase is Phase.IDLE), None)
        for row in range(self._bounds.commands):
            taken = None if idle is None else self._database.take_due(state, row, idle)
            if taken is not None and idle is not None:
                yield Step(f"{NAMES[idle]} takes {self._names[row]}: a new epoch", False, taken)
                lost = _with(taken, idle, IDLE)
                yield Step(f"{NAMES[idle]} takes {self._names[row]}, and the COMMIT's answer is lost", True, lost)
            old = state.rows[row]
            timed_out = old.state is CommandState.UNKNOWN and not old.quiet and not old.young
            if timed_out and Rule.EVIDENCE_ONLY not in self._rules:
                failed = self._database.learn(state, row, CommandState.FAILED)
                assert failed is not None
                yield Step(f"a timer turns {self._names[row]} into FAILED", False, failed)

    def _evidence(self, state: State) -> Iterator[Next]:
        for row in range(self._bounds.commands):
            if self._shown(state, row):
                learned = self._database.learn(state, row, CommandState.SUCCEEDED)
                if learned is not None:
                    yield Step(f"a callback shows {self._names[row]}: SUCCEEDED, and fences its holder", False, learned)

    def _orphan(self, state: State, number: int, orphan: Orphan) -> Iterator[Next]:
        gone = state._replace(orphans=(*state.orphans[:number], *state.orphans[number + 1 :]))
        booked, what = self._executed(gone, orphan.row)
        yield Step(f"a late request of {self._names[orphan.row]} arrives: the provider {what}", False, booked)
        yield Step(f"a late request of {self._names[orphan.row]} is lost", True, gone)

    def _time(self, state: State) -> Iterator[Next]:
        bounded = Assumption.FLIGHT_IS_BOUNDED in self._assumed
        flying = [worker.left for worker in state.workers if worker.phase is Phase.WAITING]
        flying += [orphan.left for orphan in state.orphans]
        if bounded and 0 in flying:
            return  # what has flown the longest lands, or is lost, before anything else
        if Assumption.CLOCK_IS_STEADY not in self._assumed:
            leapt = tuple(row._replace(lease=0, quiet=0, young=0) for row in state.rows)
            yield Step("the database's clock leaps ahead", True, state._replace(rows=leapt))
        clock = Assumption.CLOCK_RUNS in self._assumed
        passing = {Phase.READY: clock, Phase.WAITING: bounded}
        after = state._replace(
            rows=tuple(self._aged(row) for row in state.rows),
            workers=tuple(
                worker._replace(left=worker.left - 1) if worker.left and passing.get(worker.phase) else worker
                for worker in state.workers
            ),
            orphans=tuple(orphan._replace(left=orphan.left - 1) if bounded else orphan for orphan in state.orphans),
        )
        if after != state:
            yield Step(TICK, False, after)

    def _aged(self, row: Row) -> Row:
        memory = row.memory - 1 if row.memory and self._bounds.forgets else row.memory
        # What is not live has no other times.
        return Row(row.state, max(0, row.lease - 1), max(0, row.quiet - 1), max(0, row.young - 1), row.effects, memory)

    # ------------------------------------------------------------------------------------------------ the provider

    def _executed(self, state: State, number: int) -> tuple[State, str]:
        """The provider gets a request: it books an effect, unless it knows the key."""
        row = state.rows[number]
        # Without a claim the command's id, and so the key, is another one at each try.
        has_key = Rule.PROVIDER_KEY in self._rules and row.state is not None
        if row.memory and has_key:
            return state, "knows the key and answers as before"
        booked = row._replace(effects=min(EFFECTS_MAX, row.effects + 1), memory=self._memory_after_effect)
        rows = (*state.rows[:number], booked, *state.rows[number + 1 :])
        return state._replace(rows=rows), "executes it" if not row.effects else "executes it AGAIN"

    def _shown(self, state: State, row: int) -> bool:
        """Whether the provider's object shows the operation."""
        if Rule.OPERATION_ID in self._rules or self._bounds.kind is Kind.CREATE:
            return state.rows[row].effects > 0
        amounts = self._bounds.amounts
        return any(other.effects and amounts[n] == amounts[row] for n, other in enumerate(state.rows))

    def _orphaned(self, state: State, worker: Worker) -> State:
        if len(state.orphans) >= self._bounds.orphans:
            return state
        return state._replace(orphans=(*state.orphans, Orphan(worker.row, worker.left)))


_HARMLESS_UNHELD = frozenset({Phase.ANSWERED, Phase.TAKEN, Phase.ABSENT})


def _with(state: State, number: int, worker: Worker) -> State:
    rows, workers, orphans, key, stray, sums = state
    return State(rows, (*workers[:number], worker, *workers[number + 1 :]), orphans, key, stray, sums)


def _ended(worker: Worker, outcome: Outcome) -> Worker:
    """The worker with an outcome to settle; what it no longer needs is forgotten, so that like states are alike."""
    return Worker(Phase.ANSWERED, worker.row, worker.holds, worker.resend, outcome=outcome, seen=worker.seen)


def _never(worker: Worker) -> Worker:
    return _ended(worker, Outcome.NEVER_EXECUTED)
