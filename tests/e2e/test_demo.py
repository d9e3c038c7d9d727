"""`obol demo`, as a newcomer runs it: it agrees with itself, says so in its last line, and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from gateway.demo import run
from gateway.demo.provider import PROVIDERS
from tests.exchanges import Exchanges

LAST_LINE = re.compile(
    r"demo: payments=(\d+) effects=(\d+) observations=(\d+) accepted=(\d+) unknown=(\d+) violations=(\d+)"
)
PID = re.compile(r"process (\d+)$")
GONE_S = 15.0
IMPATIENT_S = 0.05
ENDINGS = ((signal.SIGTERM, signal.SIGINT), (signal.SIGKILL,))
"""Signals in the middle of a scene, one soon after the other: the first ends it in order, the next hurries nothing.

A SIGTERM is made what a SIGINT is in Python; what comes of either is the same from there on.
"""
# Whoever starts the tests in the background has SIGINT ignored, and so would the demo.
INTERRUPTIBLE = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('gateway.cli', run_name='__main__')"
)


def temporary(directory: Path) -> Path:
    """Where the demo's own directory comes to be; its name is one that URLs and TOML must quote."""
    odd = directory / 'what? 100%20#"ü'
    odd.mkdir(exist_ok=True)
    return odd


@contextmanager
def demo(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The demo in a process of its own, in a place where settings lie in wait for it."""
    (directory / "obol.toml").write_text("this is no TOML")
    hostile = {"OBOL_GRPC__PORT": "1", "OBOL_NO_SUCH_SETTING": "1", "HTTP_PROXY": "http://127.0.0.1:9"}
    environment = {**os.environ, **hostile, "TMPDIR": str(temporary(directory))}
    command = [sys.executable, "-c", INTERRUPTIBLE, "demo", *options]
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as playing:
        try:
            yield playing
        finally:
            playing.kill()


def pids_until(playing: subprocess.Popen[str], heading: str) -> list[int]:
    """Read on until a scene begins; the processes that were named before."""
    assert playing.stdout is not None
    pids = []
    for line in playing.stdout:
        if found := PID.search(line.rstrip()):
            pids.append(int(found.group(1)))
        if line.strip().endswith(heading):
            return pids
    raise AssertionError(f"the demo ended before {heading!r}: {playing.stderr and playing.stderr.read()}")


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for what the end of a process brings with it."""
    by_s = time.monotonic() + GONE_S
    while not condition():
        assert time.monotonic() < by_s, what
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_demo_agrees_and_leaves_nothing(tmp_path: Path, provider: str, exchanges: Exchanges) -> None:
    """Everything it shows is counted, the books agree, it exits with 0, and its processes and files are gone."""
    with demo(tmp_path, "--provider", provider) as playing:
        out, err = playing.communicate()
    assert playing.returncode == 0, err
    # Processes of their own as well are held to the provider's documents.
    assert exchanges.count(provider) > 0 or provider == "sandbox"
    found = LAST_LINE.fullmatch(out.splitlines()[-1])
    assert found, out
    payments, effects, observations, accepted, unknown, violations = map(int, found.groups())
    assert "Captured in two parts" in out
    assert (payments, effects) == (6, 10)
    assert "acct_away: NOT_SENT, " in out
    assert "acct_main: CHOSEN" in out
    assert observations == accepted == out.count(" observed #") >= 9
    assert (unknown, violations) == (0, 0)
    pids = [int(found.group(1)) for line in out.splitlines() if (found := PID.search(line))]
    assert len(pids) == 3
    assert not any(map(psutil.pid_exists, pids))
    assert not list(temporary(tmp_path).iterdir())


@pytest.mark.slow
def test_a_planted_effect_is_a_violation(tmp_path: Path) -> None:
    """A charge on the provider's books that the gateway knows nothing of is printed, counted, and fails the demo."""
    kept = tmp_path / "kept"
    with demo(tmp_path, "--keep", str(kept)) as playing:
        pids_until(playing, "Refunds")
        log = kept / "data" / "sandbox" / "effects.jsonl"
        first = json.loads(log.read_text().splitlines()[0])
        with log.open("a") as planting:
            planting.write(json.dumps({**first, "n": 99, "id": "scap_planted"}) + "\n")
        out, err = playing.communicate()
    assert playing.returncode == 1
    assert LAST_LINE.fullmatch(out.splitlines()[-1])
    assert not out.endswith("violations=0\n")
    assert "demo: violation: effect 99 (capture scap_planted) was not recorded" in err
    assert f"operation {first['operation']} has 2 effects" in err
    assert (kept / "data" / "obol.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("signals", ENDINGS, ids=lambda signals: "-".join(each.name for each in signals))
def test_nothing_outlives_an_interrupted_demo(tmp_path: Path, signals: tuple[signal.Signals, ...]) -> None:
    """However it is ended in the middle, its processes end too; what it wrote goes where it can still clean up."""
    killed = signals == (signal.SIGKILL,)
    if killed and sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent was killed")
    with demo(tmp_path) as playing:
        pids = pids_until(playing, "The same call again")
        assert len(pids) == 3
        for number in signals:
            playing.send_signal(number)
            time.sleep(IMPATIENT_S)
        _, err = playing.communicate(timeout=GONE_S)
    eventually(lambda: not any(map(psutil.pid_exists, pids)), f"processes {pids} are gone")
    if not killed:
        assert playing.returncode == 130
        assert "Traceback" not in err
        assert not list(temporary(tmp_path).iterdir())


@pytest.mark.slow
def test_a_process_that_dies_ends_the_demo(tmp_path: Path) -> None:
    """A dead gateway is named at once, with the ends of all logs; the other processes end, and the exit code is 1."""
    with demo(tmp_path) as playing:
        pids = pids_until(playing, "The answer is lost")
        os.kill(pids[1], signal.SIGKILL)
        out, err = playing.communicate(timeout=2 * GONE_S)
    assert playing.returncode == 1
    assert "the gateway ended by itself with -9" in err
    assert all(f"{name}.log:" in err for name in ("sandbox", "gateway", "sidecar"))
    assert "violations=0" not in out
    assert not any(map(psutil.pid_exists, pids))


def test_nothing_is_played_over_an_earlier_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory that holds something is refused: its figures would mix with these."""
    (tmp_path / "obol.db").touch()
    assert run(keep=tmp_path) == 2
    assert "--keep" in capsys.readouterr().err


def test_an_unknown_provider_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Whom the demo cannot play against, it says."""
    assert run(provider="acme") == 2
    assert f"{', '.join(PROVIDERS)}, not acme" in capsys.readouterr().err
