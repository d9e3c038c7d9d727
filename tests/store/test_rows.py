"""Values survive their rows: every field, both ways, as Python has it and as JSON brings it."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.commands import Caller, Command, Operation, PreparedRequest
from gateway.domain.declines import Decline
from gateway.domain.derivation import MoneySums
from gateway.domain.movements import RANKS, Attempt, AttemptStatus, Facts, Movement, ProviderObject
from gateway.domain.observations import Observation
from gateway.domain.payments import NextAction, Payment, PaymentTerms, Refund
from gateway.domain.risk import RiskLevel, RiskSignal
from gateway.domain.storage import AuditRecord, Callback, Transition
from store import facts as evidence
from store import records, rows, tables, values

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
amounts = st.integers(0, 2**62)
times = st.integers(0, 2**62)
mappings = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)

st.register_type_strategy(str, words)
st.register_type_strategy(int, amounts)
st.register_type_strategy(PreparedRequest, st.builds(PreparedRequest, body=st.text(), headers=mappings))

movements = st.sampled_from(sorted(RANKS)).flatmap(
    lambda pair: st.builds(Movement, kind=st.just(pair[0]), status=st.just(pair[1]))
)


risks = st.none() | st.builds(RiskSignal, score=st.none() | st.integers(0, 100))


def by_key(facts: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """A tuple of facts as `Facts` holds them: each key once, in order."""
    several = st.lists(facts, max_size=3, unique_by=lambda fact: fact.key)
    return several.map(lambda found: tuple(sorted(found, key=lambda fact: fact.key)))


facts = st.builds(
    Facts,
    movements=by_key(movements),
    attempts=by_key(st.builds(Attempt, risk=risks)),
    objects=by_key(st.builds(ProviderObject)),
)
payments = st.builds(Payment, terms=st.builds(PaymentTerms, metadata=mappings), facts=facts, sums=st.builds(MoneySums))


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """The row as an aggregate read brings it: bytes as hex, on SQLite booleans as 0 and 1."""
    plain = {name: "\\x" + value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
    plain = {name: int(value) if isinstance(value, bool) else value for name, value in plain.items()}
    found: dict[str, Any] = json.loads(json.dumps(plain))
    return found


@given(payments)
def test_a_payment_survives(payment: Payment) -> None:
    """Terms, facts, sums, states and documents come back; its row fills the table's columns."""
    row = rows.payment_row(payment)
    moved = [evidence.movement_row(payment.tenant_id, payment.payment_id, one) for one in payment.facts.movements]
    assert set(row) == {column.name for column in tables.payments.columns}
    assert rows.payment_from(row, reversed(moved)) == payment
    assert rows.payment_from(as_json(row), [as_json(one) for one in moved]) == payment
    assert set(rows.derived_row(payment)) == set(rows.DERIVED_COLUMNS)


def survives(value: Any, write: Callable[[Any], dict[str, Any]], read: Callable[[Any], Any], table: str) -> None:
    """`value` comes back from its row in both forms, and the row has the table's columns and no other."""
    row = write(value)
    assert set(row) <= {column.name for column in tables.metadata.tables[table].columns}
    assert read(row) == value
    assert read(as_json(row)) == value


@given(st.builds(Command, caller=st.builds(Caller)))
def test_a_command_survives(command: Command) -> None:
    """Its hash and its reply are bytes, and stay so."""
    survives(command, rows.command_row, rows.command_from, "commands")


@given(st.builds(Operation))
def test_an_operation_survives(operation: Operation) -> None:
    """The exact request comes back character for character, also what no JSON of a database could hold."""
    survives(operation, rows.operation_row, rows.operation_from, "operations")


@given(movements)
def test_a_movement_survives(movement: Movement) -> None:
    """Every field of it."""
    survives(movement, lambda one: evidence.movement_row("t", "p", one), evidence.movement_from, "movements")


@given(st.builds(Refund))
def test_a_refund_survives(refund: Refund) -> None:
    """Every field of it."""
    survives(refund, records.refund_row, records.refund_from, "refunds")


@given(st.builds(Observation, sequence=st.just(0), risk=risks))
def test_an_observation_survives(observation: Observation) -> None:
    """Every field but its place, which the log gives."""

    def read(row: dict[str, Any]) -> Observation:
        return records.observation_from(row | {"sequence": None})

    survives(observation, records.observation_row, read, "observations")


@given(st.builds(Callback, headers=mappings))
def test_a_callback_survives(callback: Callback) -> None:
    """Body and headers are exactly what was received."""
    survives(callback, records.callback_row, records.callback_from, "callbacks")


@given(st.lists(st.builds(Transition), max_size=4).map(tuple))
def test_transitions_survive(transitions: tuple[Transition, ...]) -> None:
    """The edges of a version keep their order."""
    row = {
        "payment_id": "p",
        "version": 1,
        "source": "CLAIM",
        "causation_id": "c",
        "transitions": records.transitions_document(transitions),
        "recorded_time_us": 1,
    }
    assert records.history_from(row).transitions == transitions


@given(st.builds(AuditRecord, caller=st.builds(Caller)))
def test_an_audit_record_fills_its_row(record: AuditRecord) -> None:
    """Every column but the store's own time is written."""
    assert set(records.audit_row(record)) == {c.name for c in tables.audit.columns} - {"recorded_time_us"}


@given(st.none() | st.builds(Decline))
def test_a_decline_survives(decline: Decline | None) -> None:
    """The provider's words, whatever they are."""
    assert values.decline_from(values.decline_document(decline)) == decline


@given(st.builds(NextAction, redirect_url=st.text(), client_secret=st.text()), payments)
def test_what_the_payer_must_do_survives(action: NextAction, payment: Payment) -> None:
    """Documents hold any character, also a lone surrogate."""
    from dataclasses import replace

    acting = replace(payment, next_action=action, facts=Facts())
    assert rows.payment_from(rows.payment_row(acting), []) == acting


@pytest.mark.parametrize(
    ("given_text", "kept"), [("plain", "plain"), ("naïve ☃", "naïve ☃"), ("a\0b", "a\ufffdb"), ("\ud800", "?")]
)
def test_what_no_engine_can_hold_is_replaced(given_text: str, kept: str) -> None:
    """NUL and lone surrogates in a provider's words cost a character, never the row."""
    assert values.clean(given_text) == kept
    values.clean(given_text).encode()


def test_a_risk_stands_apart_from_what_the_release_before_reads() -> None:
    """An attempt's row has the length that it knows, and without a risk the whole document is as it was."""
    plain = Attempt("acct", "obj", 1, AttemptStatus.SUCCEEDED)
    told = replace(plain, ordinal=2, risk=RiskSignal(RiskLevel.ELEVATED, 70))
    assert set(json.loads(evidence.flow_document(Facts(attempts=(plain,))))) == {"attempts", "objects"}
    document = json.loads(evidence.flow_document(Facts(attempts=(plain, told))))
    assert [len(each) for each in document["attempts"]] == [6, 6]
    assert document["risks"] == [["acct", "obj", 2, "ELEVATED", 70]]
    assert evidence.facts_from(json.dumps(document), ()).attempts == (plain, told)
