"""The transactions, each one step: claim, settle, take_due, start_resend; and what a callback's settle does.

Every one answers with the state afterwards, or None where its guard does not hold and nothing is written.
"""

from collections.abc import Set as AbstractSet

from gateway.domain.states import COMMAND_EDGES, LIVE_COMMAND_STATES, RESERVING_STATES, CommandState
from tests.model.rules import Rule
from tests.model.state import IDLE, Bounds, Kind, Outcome, Phase, Row, State, Sums, Worker
from tests.model.table import classified

SETTLED_BY_FACTS = (Outcome.ANSWERED, Outcome.FOUND)
_FIRST_SEND_FAILS = {**classified(), (Outcome.AMBIGUOUS, False): CommandState.FAILED}


class Database:
    """The rows under the rules that are on."""

    def __init__(self, rules: AbstractSet[Rule], bounds: Bounds) -> None:
        self._rules = rules
        self._bounds = bounds
        self._table = classified() if Rule.ELSE_UNKNOWN in rules else _FIRST_SEND_FAILS

    def claim(self, state: State, row: int, worker: int, *, planned: bool = False) -> State | None:
        """Command and operation in SENDING under a lease; a NOT_SENT key reopens. `planned`: the room was seen."""
        old = state.rows[row]
        if old.state is not None and not self._may_reopen(old):
            return None
        if not planned and not self.has_room(state, row):
            return None
        bounds = self._bounds
        new = old._replace(
            state=CommandState.SENDING,
            lease=bounds.lease,
            quiet=bounds.send_window + bounds.flight,
            young=bounds.young(by_age=Rule.RESEND_AGE in self._rules, by_window=Rule.KEY_WINDOW in self._rules),
        )
        holder = Worker(Phase.READY, row, left=bounds.send_window, seen=self._reserving(state, row))
        sums = state.sums
        if Rule.VERSION_GUARD not in self._rules:
            sums = sums._replace(reserved=sums.reserved + bounds.amounts[row])
        return self._written(state, row, new, worker, holder)._replace(sums=sums)

    def has_room(self, state: State, row: int) -> bool:
        """The claim's guard: the amount fits, no exclusive command is under way, a unique order has no payment."""
        bounds = self._bounds
        others = [other for number, other in enumerate(state.rows) if number != row]
        if bounds.kind is Kind.CREATE:
            return not bounds.order_unique or all(other.state is None for other in others)
        exclusive = bounds.kind is Kind.CAPTURE and Rule.EXCLUSIVE in self._rules
        if exclusive and any(other.state in RESERVING_STATES for other in others):
            return False
        if Rule.VERSION_GUARD not in self._rules:
            taken = state.sums.reserved + state.sums.moved
        else:
            taken = sum(
                amount
                for number, (other, amount) in enumerate(zip(state.rows, bounds.amounts, strict=True))
                if number != row and (other.state is CommandState.SUCCEEDED or other.state in self._reserving_states())
            )
        return taken + bounds.amounts[row] <= bounds.total

    def settle(self, state: State, worker: int) -> State:
        """What the outcome taught. A holder that lost its fence leaves evidence, and changes nothing."""
        held = state.workers[worker]
        row = state.rows[held.row]
        if not held.holds and Rule.EPOCH_FENCE in self._rules:
            return self._freed(state, worker)
        resend = held.resend and Rule.SENT_NEVER_FALLS in self._rules
        after = self._table[held.outcome, resend]
        if row.state is None:
            # Only where the call came before the claim: both are written now.
            return self._written(state, held.row, self._ended(row._replace(state=after)), worker, IDLE)
        if held.outcome not in SETTLED_BY_FACTS and row.state not in LIVE_COMMAND_STATES:
            after = row.state
        if after not in COMMAND_EDGES[row.state]:
            after = row.state
        settled = self._written(state, held.row, self._ended(row._replace(state=after)), worker, IDLE, fences=False)
        return settled if Rule.VERSION_GUARD in self._rules else settled._replace(sums=self._sums(settled, held))

    def take_due(self, state: State, row: int, worker: int) -> State | None:
        """A live operation whose lease has ended gets a new holder and a new epoch."""
        old = state.rows[row]
        if old.state not in LIVE_COMMAND_STATES or (old.lease and Rule.LEASE in self._rules):
            return None
        taken = Worker(Phase.TAKEN, row, absence_counts=not old.quiet, young=bool(old.young))
        return self._written(state, row, old._replace(lease=self._bounds.lease), worker, taken)

    def start_resend(self, state: State, worker: int) -> State | None:
        """Before a resend: the lease and the last possible send move on, where the holder still is one."""
        held = state.workers[worker]
        old = state.rows[held.row]
        if not held.holds and Rule.START_RESEND_FENCE in self._rules:
            return None
        if not old.lease and Rule.START_RESEND_LEASE in self._rules:
            return None
        if old.state not in LIVE_COMMAND_STATES and Rule.START_RESEND_FENCE in self._rules:
            return None
        bounds = self._bounds
        moved = old._replace(lease=bounds.lease)
        if Rule.LAST_SEND_MOVES in self._rules:
            moved = moved._replace(quiet=bounds.send_window + bounds.flight)
        sender = held._replace(phase=Phase.READY, resend=True, left=bounds.send_window)
        return self._written(state, held.row, moved, worker, sender, fences=False)

    def learn(self, state: State, row: int, after: CommandState) -> State | None:
        """A callback or SyncPayment settles what it saw, and fences whoever holds the operation."""
        old = state.rows[row]
        if old.state is None or after not in COMMAND_EDGES[old.state]:
            return None
        return self._written(state, row, self._ended(old._replace(state=after)), -1, IDLE)

    def _may_reopen(self, row: Row) -> bool:
        if row.state is CommandState.NOT_SENT:
            return Rule.REOPEN in self._rules
        return row.state is CommandState.UNKNOWN and Rule.REOPEN_NOT_SENT_ONLY not in self._rules

    def _reserving_states(self) -> AbstractSet[CommandState]:
        if Rule.RESERVATION not in self._rules:
            return frozenset()
        if Rule.RESERVED_WHILE_UNKNOWN not in self._rules:
            return frozenset({CommandState.SENDING})
        return RESERVING_STATES

    def _ended(self, row: Row) -> Row:
        """A settle ends the lease; what is live is due again after a pause, what is not has no times."""
        if row.state in LIVE_COMMAND_STATES:
            return row._replace(lease=self._bounds.pause)
        return row._replace(lease=0, quiet=0, young=0)

    def _freed(self, state: State, worker: int) -> State:
        workers = state.workers
        return state._replace(workers=(*workers[:worker], IDLE, *workers[worker + 1 :]))

    def _written(self, state: State, row: int, new: Row, worker: int, holder: Worker, *, fences: bool = True) -> State:
        """The row and its holder replaced; `fences`: the epoch was raised, so nobody else holds it any more."""
        workers = tuple(
            holder if number == worker else (other._replace(holds=False) if fences and other.row == row else other)
            for number, other in enumerate(state.workers)
        )
        rows = (*state.rows[:row], new, *state.rows[row + 1 :])
        return State(rows, workers, state.orphans, state.key, state.stray, state.sums)

    def _reserving(self, state: State, row: int) -> int:
        """Which other commands reserve now, as bits; read with the payment, and used only by an unguarded settle."""
        if Rule.VERSION_GUARD in self._rules:
            return 0
        return sum(
            1 << number for number, other in enumerate(state.rows) if number != row and other.state in RESERVING_STATES
        )

    def _sums(self, state: State, held: Worker) -> Sums:
        """The payment row as a settle computes it from what it read at its claim, whatever has come since."""
        amounts = self._bounds.amounts
        own = state.rows[held.row].state
        reserved = sum(amount for number, amount in enumerate(amounts) if held.seen >> number & 1)
        moved = sum(a for r, a in zip(state.rows, amounts, strict=True) if r.state is CommandState.SUCCEEDED)
        return Sums(reserved + (amounts[held.row] if own in RESERVING_STATES else 0), moved)
