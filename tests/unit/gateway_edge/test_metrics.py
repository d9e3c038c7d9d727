"""Metrics: names, values, and labels of bounded number."""

import socket
from contextlib import closing

import pytest
from prometheus_client import generate_latest

from gateway.domain.commands import CommandKind
from gateway.domain.providers import AccountHealth
from gateway.domain.states import CommandState
from gateway.metrics import LABEL_VALUES_MAX, Exposition, Metrics


def text(metrics: Metrics) -> str:
    """What Prometheus reads."""
    return generate_latest(metrics.registry).decode()


def test_an_unknown_is_no_failure() -> None:
    """UNKNOWN, PENDING and the like count neither as success nor as failure; FAILED and SUCCEEDED do."""
    metrics = Metrics("1")
    for state in CommandState:
        metrics.command("sandbox", "CREATE", state, "DECLINED" if state is CommandState.FAILED else "")
    said = text(metrics)
    assert 'obol_payment_successes_total{kind="CREATE",provider="sandbox"} 1.0' in said
    assert 'obol_payment_failures_total{kind="CREATE",provider="sandbox",reason="DECLINED"} 1.0' in said
    assert said.count("obol_payment_failures_total{") == 1
    assert all(
        f'obol_commands_total{{kind="CREATE",provider="sandbox",state="{state}"}} 1.0' in said for state in CommandState
    )


def test_an_attempt_is_a_write_and_not_a_look() -> None:
    """FETCH and LOOKUP have their latency, and are no payment attempts."""
    metrics = Metrics("1")
    for kind in (*CommandKind, "FETCH", "LOOKUP"):
        metrics.attempt("sandbox", "a", kind, "Answered", 0.1)
    said = text(metrics)
    assert said.count("obol_payment_attempts_total{") == len(CommandKind)
    assert said.count("obol_provider_latency_seconds_count{") == len(CommandKind) + 2


def test_labels_are_bounded() -> None:
    """A value from outside can be anything; the number of time series cannot."""
    metrics = Metrics("1")
    for number in range(10 * LABEL_VALUES_MAX):
        metrics.unmapped("sandbox", f"field-{number}")
        metrics.callback(f"provider-{number}", "RECEIVED")
    metrics.unmapped("sandbox", "x" * 10_000)
    said = text(metrics)
    assert said.count("obol_unmapped_values_total{") == LABEL_VALUES_MAX + 1
    assert said.count("obol_callbacks_total{") == LABEL_VALUES_MAX + 1
    assert 'obol_unmapped_values_total{field="OTHER",provider="sandbox"}' in said


def test_a_state_that_has_emptied_says_so() -> None:
    """A gauge goes back to zero when the database names the state no more."""
    metrics = Metrics("1")
    metrics.unresolved({CommandState.UNKNOWN: 3}, 12.5, 2)
    assert 'obol_unresolved_operations{state="UNKNOWN"} 3.0' in text(metrics)
    metrics.unresolved({}, 0.0, 0)
    assert 'obol_unresolved_operations{state="UNKNOWN"} 0.0' in text(metrics)


def test_what_waits_for_a_consumer_is_shown() -> None:
    """The gauge is what the database counted last."""
    metrics = Metrics("1")
    metrics.undecided(7)
    assert "obol_observations_undecided 7.0" in text(metrics)


@pytest.mark.parametrize(("health", "value"), [("CLOSED", 0), ("HALF_OPEN", 1), ("OPEN", 2)])
def test_a_breaker_is_a_number(health: str, value: int) -> None:
    """0 closed, 1 half-open, 2 open, for each account."""
    metrics = Metrics("1")
    metrics.breaker("acct_main", AccountHealth(health))
    assert f'obol_breaker_state{{account_id="acct_main"}} {value}.0' in text(metrics)


def test_an_exposition_at_a_port_in_use_is_an_error() -> None:
    """It does not join another process's port in silence."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other, pytest.raises(OSError, match="in use"):
        Exposition(Metrics("1"), "127.0.0.1", other.getsockname()[1])


def test_alarms_are_counted_and_what_is_alarmed_now_is_shown() -> None:
    """A counter of what was told, and a gauge that falls again."""
    metrics = Metrics("1")
    metrics.alarm("sandbox", "REFUND")
    metrics.unresolved({CommandState.UNKNOWN: 3}, 1_000.0, 0, 2)
    said = text(metrics)
    assert 'obol_unresolved_alarms_total{kind="REFUND",provider="sandbox"} 1.0' in said
    assert "obol_unresolved_alarmed_operations 2.0" in said
    metrics.unresolved({}, 0.0, 0)
    assert "obol_unresolved_alarmed_operations 0.0" in text(metrics)
