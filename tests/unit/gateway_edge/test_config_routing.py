"""The routing rules of the settings: read from TOML and the environment, and refused with the way out."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config import ConfigError, load_settings
from gateway.domain.routes import FailoverOn
from gateway.domain.routing import Feature

ACCOUNTS = """
[providers.a]
provider = "sandbox"
base_url = "http://127.0.0.1:8080"
api_key = "planted-key"
rate_per_s = 25.0
burst = 5
default = true

[providers.b]
provider = "sandbox"
base_url = "http://127.0.0.1:8080"
api_key = "planted-key"
"""

RULES = """
[[routing.rules]]
name = "large-eur"
currencies = ["EUR"]
amount_minor_min = 100_000
payer_countries = ["DE"]
requires = ["multiple_capture"]
accounts = ["b", "a"]
failover_on = ["not_sent", "soft_decline"]
attempts_max = 2

[[routing.rules]]
name = "rest"
accounts = ["a", "b"]
weights = { a = 70, b = 30 }
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory of the test's own."""
    monkeypatch.chdir(tmp_path)


def problems(text: str) -> list[str]:
    """What is wrong with these settings."""
    Path("obol.toml").write_text(ACCOUNTS + text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    return caught.value.problems


def test_rules_are_read_in_order() -> None:
    """As they stand in the file, with their defaults; enums in any case of letters."""
    Path("obol.toml").write_text(ACCOUNTS + RULES)
    settings = load_settings()
    large, rest = settings.routing_rules
    assert (large.name, large.accounts, large.amount_minor_min) == ("large-eur", ("b", "a"), 100_000)
    assert (large.requires, large.attempts_max) == (frozenset({Feature.MULTIPLE_CAPTURE}), 2)
    assert large.failover_on == {FailoverOn.NOT_SENT, FailoverOn.SOFT_DECLINE}
    assert rest.failover_on == {FailoverOn.NOT_SENT}
    assert dict(rest.weights) == {"a": 70, "b": 30}
    assert (settings.providers["a"].rate_per_s, settings.providers["a"].burst) == (25.0, 5)


def test_without_rules_there_are_none() -> None:
    """The default decides."""
    assert load_settings().routing_rules == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[routing.rules]]\nname = "x"\naccounts = ["c"]\n', "routing.rules[0].accounts (from the file obol.toml): "),
        ('[[routing.rules]]\nname = "x"\naccounts = ["a"]\nweights = {a = 0}\n', "routing.rules[0].weights (from"),
        ('[[routing.rules]]\nname = "x"\naccounts = ["a"]\ncurrencies = ["XXZ"]\n', "there is no currency XXZ"),
        (
            '[[routing.rules]]\nname = "x"\naccounts = ["a"]\nfailover_on = ["timeout"]\n',
            "'NOT_SENT' or 'SOFT_DECLINE'",
        ),
        ('[[routing.rules]]\nname = "x"\naccounts = ["a"]\ncolour = "red"\n', "routing.rules.0.colour"),
        ('[[routing.rules]]\nname = "x"\naccounts = ["a"]\nattempts_max = 9\n', "it is accounts that may be sent to"),
        (RULES.replace('"rest"', '"rest2"') + '[[routing.rules]]\nname = "y"\naccounts = ["a"]\n', "is never reached"),
    ],
)
def test_a_wrong_rule_is_told_with_its_setting(text: str, said: str) -> None:
    """Where it stands, from which file, and how to mend it; no secret."""
    told = problems(text)
    assert any(said in line for line in told), told
    assert "planted-key" not in "\n".join(told)


def test_every_problem_is_told_at_once() -> None:
    """Nobody mends a file line by line."""
    assert len(problems('[[routing.rules]]\nname = "x"\naccounts = ["c", "d"]\nweights = {c = 0, d = 0}\n')) == 3


def test_a_check_asks_the_adapters_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that could never take what its rule matches is found before a payment finds it."""
    from dataclasses import replace

    from providers.sandbox.capabilities import CAPABILITIES

    small = replace(CAPABILITIES, multiple_capture=False, currencies=frozenset({"USD"}), amount_minor_max=10)
    monkeypatch.setattr("providers.sandbox.adapter.CAPABILITIES", small)
    Path("obol.toml").write_text(ACCOUNTS + RULES)
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 2
    for said in ("b lacks MULTIPLE_CAPTURE", "b takes none of EUR", "b takes at most 10 minor units"):
        assert f"routing.rules[0].accounts: {said}" in result.output
