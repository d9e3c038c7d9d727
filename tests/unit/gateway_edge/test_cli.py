"""The `obol` command: quick help with examples, exit codes, nothing secret on the screen."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import app

COMMANDS = [
    *([name] for name in ("serve", "verify", "webhooks", "sandbox", "simulator", "demo", "migrate", "version")),
    *(["config", "check"], ["providers", "check"]),
    *(["unresolved"], ["resolve"], ["callbacks"], ["replay"], ["explain"], ["audit"]),
    *(["providers", "list"], ["providers", "mode"]),
    *(["reconcile"], ["reconciliations"], ["restore"], ["lost", "list"], ["lost", "settle"]),
]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory of the test's own."""
    monkeypatch.chdir(tmp_path)


def test_every_command_is_known_here() -> None:
    """A new command joins COMMANDS, and so has help with an example."""
    group = typer.main.get_command(app)
    assert set(group.commands) == {command[0] for command in COMMANDS}  # type: ignore[attr-defined]  # a click group


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    """What it does, and a line to copy."""
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"obol {' '.join(command)}" in result.output.partition("Example:")[2]


@pytest.mark.parametrize("module", ["grpc", "sqlalchemy", "aiohttp", "pydantic", "uvicorn"])
def test_help_loads_nothing_heavy(module: str) -> None:
    """`obol --help` is quick, and a supervisor forks before gRPC is loaded."""
    script = f"import sys, gateway.cli, gateway.workers, gateway.rpc.address; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_what_a_supervisor_needs_loads_no_grpc() -> None:
    """A process that has loaded gRPC must not fork: settings, the held port and the supervisor do without."""
    script = (
        "import sys, gateway.config as c, gateway.workers, gateway.rpc.address; c.load_settings();"
        "sys.exit('grpc' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_check_shows_the_settings_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting in effect by its name; keys, signing secrets and passwords as stars."""
    monkeypatch.setenv("OBOL_DATABASE__URL", "postgresql+asyncpg://u:planted@h/d")
    monkeypatch.setenv("OBOL_GRPC__PORT", "1234")
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 0
    assert "grpc.port = 1234" in result.output
    assert "providers.acct_main.api_key = ******" in result.output
    assert "planted" not in result.output
    assert "sandbox-key-main" not in result.output


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OBOL_GRPC__PORT", "x", "grpc.port"),
        ("OBOL_GRPC__HOST", "10.0.0.1", "grpc.host"),
        ("OBOL_PROVIDERS__ACCT_MAIN", '{"provider": "no", "base_url": "x", "api_key": "k"}', "providers: "),
        ("OBOL_PROVIDERS__ACCT_MAIN", '{"provider": "sandbox", "base_url": "ftp://x", "api_key": "k"}', "providers: "),
    ],
)
def test_a_check_finds_what_would_keep_a_gateway_from_serving(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """Wrong values, refused addresses, unknown providers: exit code 2, and a line that names the setting."""
    monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 2
    assert f"obol: {said}" in result.output


def test_a_misused_command_is_told_apart_from_a_failed_one() -> None:
    """An unknown option is exit code 2."""
    assert CliRunner().invoke(app, ["serve", "--no-such-option"]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["providers", "list", "--gateway", "127.0.0.1:9"], 1, "the gateway did not answer"),
        (["unresolved", "--actor", "two words"], 2, "actor must be"),
        (["callbacks", "--state", "LOST"], 2, "--state: LOST is none of APPLIED, IGNORED"),
    ],
)
def test_an_operators_command_that_cannot_ask_says_why(arguments: list[str], code: int, said: str) -> None:
    """One line, and an exit code that tells a misuse from a gateway that is away."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code
    assert f"obol: {said}" in result.output
