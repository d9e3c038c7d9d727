"""The programs under measurement, each a process of its own: the gateway, its sidecar, and the floor.

The gateway is `obol serve` as it is installed; only its provider is the bench's, found through an entry point that is
written into the run's own directory.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

from bench.provider import PROVIDER
from bench.requests import SIGNING_SECRET

START_S_MAX = 60.0
STOP_S_MAX = 30.0
MIB = 1024 * 1024

FAST_ACCOUNT = "acct_fast"
SLOW_ACCOUNT = "acct_slow"

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
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"\S+:\d+", line)
        if found is None:
            self._stop()
            raise RuntimeError(f"{self.name} did not start: {self._last_words()}")
        self.address = found.group().rstrip(",")
        self.seen = psutil.Process(self._process.pid)
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
        times = self.seen.cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> float:
        """Resident memory now, in MiB."""
        return float(self.seen.memory_info().rss) / MIB

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2_000:]


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

    def gateway(self, name: str, url: str, slow: SlowAccount | None = None) -> Server:
        """`obol serve` on the database at `url`, as it is configured by default but for ports, provider and bounds."""
        config = self.folder / f"{name}.toml"
        config.write_text(_gateway_config(url, slow))
        return Server(name, ["-m", "gateway.cli", "serve", "--config", str(config)], self.folder, self.environment)

    def sidecar(self, name: str, gateway: Server) -> Server:
        """`obol webhooks` in front of `gateway`."""
        config = self.folder / f"{name}.toml"
        config.write_text(_sidecar_config(gateway.address))
        return Server(name, ["-m", "bench.sidecar", str(config)], self.folder, self.environment)

    def floor(self, name: str, url: str) -> Server:
        """The bare server on the database at `url`."""
        return Server(name, ["-m", "bench.floor", url], self.folder, self.environment)


def _gateway_config(url: str, slow: SlowAccount | None) -> str:
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
    return "\n".join(lines) + "\n"


def _sidecar_config(gateway_address: str) -> str:
    lines = ["[webhooks]", "port = 0", f'gateway = "{gateway_address}"', *_account(FAST_ACCOUNT, default=True)]
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
