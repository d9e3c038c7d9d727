"""The programs under measurement, each a process of its own: the gateway, its sidecar, and the floor.

The gateway is `obol serve` as it is installed; only its provider is the bench's, found through an entry point that is
written into the run's own directory.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

from bench.provider import PROVIDER
from bench.requests import SIGNING_SECRET

START_S_MAX = 60.0
START_POLL_S = 0.05
STOP_S_MAX = 30.0
MIB = 1024 * 1024

FAST_ACCOUNT = "acct_fast"
SLOW_ACCOUNT = "acct_slow"
DEAD_ACCOUNT = "acct_dead"
"""Takes payments, and answers no look-up."""

_SERVES = re.compile(r"(?:serves at |listening on http://)(\S+:\d+)")
_LISTENS = re.compile(r'"port": (\d+).*"event": "listening"')

_ROOT = Path(__file__).resolve().parent.parent
_ENTRY_POINTS = f"""[obol.providers]
{PROVIDER} = bench.provider:build

[obol.callback_verifiers]
{PROVIDER} = providers.sandbox.callbacks:build_verifier
"""


@dataclass(frozen=True, slots=True)
class SlowAccount:
    """The account that keeps `gate_calls` payments waiting, then answers them after `answer_after_s`."""

    gate_calls: int
    answer_after_s: float
    gate_file: Path


class Server:
    """One process that serves: started by `with`, stopped by its end. `address` is where it said that it serves."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.address = ""
        self._arguments = arguments
        self._log = folder / f"{name}.log"
        self._environment = {**os.environ, **environment}

    def __enter__(self) -> "Server":
        with self._log.open("wb") as log:
            # What a server logs it writes to a file, as it would in production.
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments], stdout=log, stderr=log, env=self._environment
            )
        try:
            self.address = self._told_address()
        except BaseException:
            self._stop()
            raise
        self._seen = psutil.Process(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        """CPU seconds that the process has used so far."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> float:
        """Resident memory now, in MiB."""
        return float(self._seen.memory_info().rss) / MIB

    def _told_address(self) -> str:
        until_s = time.monotonic() + START_S_MAX
        while time.monotonic() < until_s and self._process.poll() is None:
            said = self._log.read_text(errors="replace")
            if found := _SERVES.search(said):
                return found.group(1)
            if found := _LISTENS.search(said):
                return f"127.0.0.1:{found.group(1)}"
            time.sleep(START_POLL_S)
        raise RuntimeError(f"{self.name} did not start: {self._log.read_text(errors='replace')[-2_000:]}")

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Bench:
    """A run's own directory, and the processes that are started in it."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path) -> "Bench":
        """With the entry points of the bench's provider installed in `folder`."""
        installed = folder / "installed"
        metadata = installed / "obol_bench-0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: obol-bench\nVersion: 0\n")
        (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)
        paths = (str(installed), str(_ROOT), os.environ.get("PYTHONPATH", ""))
        return cls(folder, {"PYTHONPATH": os.pathsep.join(filter(None, paths))})

    def gateway(self, name: str, url: str, slow: SlowAccount | None = None, *, dead: bool = False) -> Server:
        """`obol serve` on the database at `url`, as it is configured by default but for ports, provider and bounds."""
        config = self.folder / f"{name}.toml"
        config.write_text(_gateway_config(url, slow, dead=dead))
        return Server(name, ["-m", "gateway.cli", "serve", "--config", str(config)], self.folder, self.environment)

    def sidecar(self, name: str, gateway: Server) -> Server:
        """`obol webhooks` in front of `gateway`."""
        config = self.folder / f"{name}.toml"
        config.write_text(_sidecar_config(gateway.address))
        return Server(name, ["-m", "gateway.cli", "webhooks", "--config", str(config)], self.folder, self.environment)

    def floor(self, name: str, url: str) -> Server:
        """The bare server on the database at `url`."""
        return Server(name, ["-m", "bench.floor", url], self.folder, self.environment)


def _gateway_config(url: str, slow: SlowAccount | None, *, dead: bool) -> str:
    lines = ["[database]", f'url = "{url}"', "[grpc]", "port = 0"]
    if slow is not None:
        # The bounds of a process are above what waits, so that what is measured is the waiting and no refusal.
        lines += [f"calls_max = {2 * slow.gate_calls + 200}"]
    lines += ["[metrics]", "port = 0"]
    if slow is not None:
        lines += ["[engine]", f"in_flight_max = {2 * slow.gate_calls + 200}"]
    lines += _account(FAST_ACCOUNT, default=True)
    if slow is not None:
        lines += _account(SLOW_ACCOUNT, default=False)
        lines += [f"calls_max = {slow.gate_calls}", f"[providers.{SLOW_ACCOUNT}.options]"]
        lines += [f'answer_after_s = "{slow.answer_after_s}"', f'gate_calls = "{slow.gate_calls}"']
        lines += [f'gate_file = "{slow.gate_file}"']
    if dead:
        lines += [*_account(DEAD_ACCOUNT, default=False), f"[providers.{DEAD_ACCOUNT}.options]", 'look_ups = "hang"']
        # What hangs is waited for by nobody once all is measured.
        lines += ["[drain]", "grace_s = 0.5"]
    return "\n".join(lines) + "\n"


def _sidecar_config(gateway_address: str) -> str:
    lines = ["[webhooks]", "port = 0", f'gateway = "{gateway_address}"']
    lines += [*_account(FAST_ACCOUNT, default=True), *_account(DEAD_ACCOUNT, default=False)]
    return "\n".join(lines) + "\n"


def _account(account_id: str, *, default: bool) -> list[str]:
    return [
        f"[providers.{account_id}]",
        f'provider = "{PROVIDER}"',
        'base_url = "http://127.0.0.1:9"',
        'api_key = "none"',
        f'webhook_secrets = ["{SIGNING_SECRET}"]',
        f"default = {str(default).lower()}",
    ]
