"""Alerts ask for metrics that there are, by labels and values that these have, and each says what to do.

promtool is no wheel: the expressions' names, labels and brackets are read here, not their whole grammar.
"""

import re
from typing import Any

import grpc
import pytest

from gateway.config_sections import MetricsSection
from gateway.domain.commands import CommandKind
from gateway.domain.states import CommandState
from gateway.metrics import Metrics
from tests.deploy.reading import DEPLOY, ROOT, documents, envoy, listeners
from webhook_http.metrics import SidecarMetrics
from webhook_http.refusals import Refusal

PROMETHEUS = DEPLOY / "prometheus"
(RULES,) = documents(PROMETHEUS / "alerts.yaml")
(SCRAPED,) = documents(PROMETHEUS / "prometheus.yaml")
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

UP = {"up": {"job"}}

VALUES = {
    "state": {state.value for state in CommandState},
    "kind": {kind.value for kind in CommandKind},
    "code": {code.name for code in grpc.StatusCode},
    "outcome": {refusal.name for refusal in Refusal} | {"KEPT", "DUPLICATE"},
    "status": {str(refusal.status) for refusal in Refusal} | {"200"},
}
SELECTOR = re.compile(r"\b(up|obol_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r"(\w+)\s*(=~|!~|=|!=)\s*\"([^\"]*)\"")


def series() -> dict[str, set[str]]:
    """Every series that a gateway or a sidecar exposes, with its labels."""
    found: dict[str, set[str]] = {**UP}
    for told in (Metrics("test"), SidecarMetrics()):
        # The library has no public word for a registry's metrics, nor for a metric's labels.
        for metric in list(told.registry._collector_to_names):
            if not hasattr(metric, "_labelnames"):
                continue
            (family,) = metric.describe()  # type: ignore[attr-defined]  # every metric of theirs has it
            labels = set(metric._labelnames)
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            found.update({f"{family.name}{suffix}": labels | {"le"} for suffix in suffixes})
    return found


SERIES = series()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_for_what_there_is(name: str) -> None:
    """Each series exists; each label that is matched or summed by is one of its own; each value can occur."""
    expression = ALERTS[name]["expr"]
    asked = SELECTOR.findall(expression)
    assert asked
    for series_name, matchers in asked:
        assert series_name in SERIES, series_name
        for label, operator, value in MATCHER.findall(matchers):
            assert label in SERIES[series_name], (series_name, label)
            if label in VALUES and "=" in operator:
                assert set(value.split("|")) <= VALUES[label], (label, value)
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        for label in re.split(r",\s*", grouped):
            assert all(label in SERIES[series_name] for series_name, _ in asked), label
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_to_do(name: str) -> None:
    """It has a severity, a summary in words, and a section of its own in docs/operations.md."""
    rule: Any = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert len(rule["annotations"]["summary"]) > 20
    assert f"**{name}**" in OPERATIONS


def test_the_book_has_no_alert_that_there_is_not() -> None:
    """What docs/operations.md tells to do is for an alert that exists."""
    assert set(re.findall(r"\*\*(Obol[A-Z]\w+)\*\*", OPERATIONS)) == set(ALERTS)


def test_what_must_be_heard_of_has_an_alert() -> None:
    """Unknowns by number and age, breakers, backlogs, errors, contradictions and undecided observations."""
    asked = {name for rule in ALERTS.values() for name, _ in SELECTOR.findall(rule["expr"])}
    assert asked >= {
        "obol_unresolved_age_seconds",
        "obol_unresolved_operations",
        "obol_breaker_state",
        "obol_callbacks_live",
        "obol_rpcs_total",
        "obol_contradictions_total",
        "obol_unmapped_values_total",
        "obol_webhook_callbacks_total",
        "obol_observations_undecided",
    }


def test_what_is_scraped_is_there() -> None:
    """Each job asks a port at which metrics are told, and each alert's job is one."""
    jobs = {each["job_name"]: each["dns_sd_configs"][0] for each in SCRAPED["scrape_configs"]}
    assert jobs["obol-gateway"]["port"] == MetricsSection().port
    assert jobs["obol-webhooks"]["port"] in listeners(envoy("webhooks.yaml"))
    assert SCRAPED["rule_files"] == ["alerts.yaml"]
    for rule in ALERTS.values():
        assert set(re.findall(r'job="([^"]+)"', rule["expr"])) <= set(jobs)
