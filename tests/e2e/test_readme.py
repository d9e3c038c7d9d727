"""The README's session and example, run as they stand: only the ports are put in place of the defaults."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.installation import Installation
from tests.processes import running

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TOOLS = Path(sys.executable).parent
COMMAND_S_MAX = 30


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Sandbox, gateway and sidecar as processes; one for the whole README, as a reader has."""
    with running(tmp_path_factory.mktemp("readme")) as installation:
        yield installation


def _sessions() -> list[str]:
    return re.findall(r"<!-- session -->\n```sh\n(.*?)```", README, re.DOTALL)


def _run(command: str, installed: Installation, folder: Path) -> str:
    there = command.replace("127.0.0.1:50051", installed.target).replace("127.0.0.1:8080", installed.sandbox_url[7:])
    environment = {"PATH": f"{TOOLS}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", there],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, f"{there}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_grpcurl_session_works_when_pasted(installed: Installation, tmp_path: Path) -> None:
    """Real grpcurl by reflection: services, health, a payment, its replay, an unknown outcome, observations."""
    first, second, third = _sessions()
    listed = _run(first, installed, tmp_path)
    assert "obol.v1.PaymentGateway" in listed
    assert "SERVING" in listed
    paid = _run(second, installed, tmp_path)
    assert paid.count("PAYMENT_STATE_CAPTURED") == 2
    assert len(set(re.findall(r"pay_[0-9a-f]{32}", paid))) == 1
    assert "obol-replayed: true" in paid
    unknown = _run(third, installed, tmp_path)
    assert "PAYMENT_STATE_UNKNOWN" in unknown
    assert "OBSERVATION_KIND_COMMAND_CONCLUDED" in unknown


def test_the_published_tokens_are_where_the_readme_says(installed: Installation, tmp_path: Path) -> None:
    """The sandbox prints what each payment method does."""
    command = next(line for line in re.findall(r"`(curl [^`]*)`", README) if "tokens" in line)
    assert "card_answer_lost" in _run(command, installed, tmp_path)


def test_the_client_example_pays_and_consumes(installed: Installation, tmp_path: Path) -> None:
    """The Python of the README, word for word: a captured payment, and its observation accepted."""
    example = re.search(r"<!-- example: client -->\n```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    script = tmp_path / "example.py"
    script.write_text(example.group(1).replace("127.0.0.1:50051", installed.target))
    said = _run(f"{sys.executable} {script}", installed, tmp_path)
    assert said.splitlines()[0] == "PAYMENT_STATE_CAPTURED"
    assert "pay_" in said.splitlines()[1]
    assert (tmp_path / "billing.cursor").read_text()


def test_the_sample_settings_are_valid(tmp_path: Path) -> None:
    """Every TOML of the README, together, is accepted by `obol config check`, which shows what the second one sets."""
    samples = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert [each.splitlines()[0] for each in samples] == ["[database]", "[reconciliation]"]
    file = tmp_path / "obol.toml"
    file.write_text("\n".join(samples))
    done = subprocess.run(
        [str(TOOLS / "obol"), "config", "check", "--config", str(file)],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sandbox-key-main" not in done.stdout
    for name, value in tomllib.loads(samples[1])["reconciliation"].items():
        assert re.search(rf"reconciliation\.{name}\b.*\b{value}\b", done.stdout), name


def test_every_rpc_is_in_the_readme() -> None:
    """The table of RPCs has every RPC of the contract that is served to callers and to the sidecar."""
    table = README[README.index("## What can be called") : README.index("## A session")]
    for name in ("payment_gateway", "billing_observation", "provider_callbacks", "operations"):
        contract = (ROOT / "proto" / "obol" / "v1" / f"{name}.proto").read_text()
        rpcs = re.findall(r"^  rpc (\w+)\(", contract, re.MULTILINE)
        assert rpcs
        missing = [rpc for rpc in rpcs if f"`{rpc}`" not in table]
        assert missing == []
