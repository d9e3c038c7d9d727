"""What must hold in every state, and what every run must be able to come to."""

from gateway.domain.states import FINAL_COMMAND_STATES, LIVE_COMMAND_STATES, CommandState
from tests.model.state import Bounds, Kind, Phase, State

NO_EFFECT_STATES = frozenset({CommandState.FAILED, CommandState.NOT_SENT})


def broken(state: State, bounds: Bounds) -> str:
    """Which promise `state` breaks; empty where none."""
    effects = [row.effects for row in state.rows]
    if max(effects) > 1 or (bounds.kind is Kind.CREATE and sum(effects) > 1):
        return f"DOUBLE EFFECT: the caller asked once, the provider did it {sum(effects)} times"
    for row in state.rows:
        if row.effects and row.state in NO_EFFECT_STATES:
            return f"FALSE FINAL: {row.state}, and the effect exists"
        if not row.effects and row.state is CommandState.SUCCEEDED:
            return "FALSE FINAL: SUCCEEDED, and there is no effect"
    if bounds.kind is not Kind.CREATE:
        moved = sum(amount * count for amount, count in zip(bounds.amounts, effects, strict=True))
        if moved > bounds.total:
            return f"OVER-{bounds.kind.upper()}: {moved} of {bounds.total}"
    return ""


def resolved(state: State, bounds: Bounds) -> bool:
    """Nothing is under way, and the caller of a create has its answer.

    Where a look is only a search, an UNKNOWN without an effect rests with a person: nothing may end it by itself.
    """
    if state.orphans or any(worker.phase is not Phase.IDLE for worker in state.workers):
        return False
    if bounds.kind is Kind.CREATE:
        current = state.rows[state.key]
        if current.state in FINAL_COMMAND_STATES:
            return True
    else:
        current = state.rows[0]
        if all(row.state not in LIVE_COMMAND_STATES for row in state.rows):
            return any(row.state in FINAL_COMMAND_STATES for row in state.rows)
    if bounds.consistent:
        return False
    live = [row for row in state.rows if row.state in LIVE_COMMAND_STATES]
    return bool(live) and all(row.state is CommandState.UNKNOWN and not row.effects for row in live)
