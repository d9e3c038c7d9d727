"""An installation of its own: a provider's imitation, gateways and a sidecar as real processes, out of one directory.

    with Installation(directory) as installed:
        installed.start()
        channel(installed.target)

Everything that they keep lies in the directory: obol.toml, data/obol.db, the imitation's effects.jsonl, and a log each.
"""

import atexit
import base64
import contextlib
import functools
import http.client
import itertools
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.demo.imitation import SANDBOX, Imitation
from gateway.demo.process import Process, stop_all, wait_until
from obol.client import channel

HOST = "127.0.0.1"
ACCOUNT = "acct_main"
ACCOUNT_AWAY = "acct_away"
RULE_OF_AWAY = "francs"
READY_S_MAX = 60.0
PROBE_S = 1.0
STOP_S = 10.0
# Below what operating systems give to outgoing connections, so that a port stays free while its process restarts.
PORTS = range(20_000, 32_000)
PORTS_SHARE = 200
"""Of one process; as many as fit into PORTS may choose ports at once."""

_CONFIG = """\
data_dir = {data}

[webhooks]
port = {webhooks}
gateway = {gateways}

[metrics]
enabled = false

[drain]
grace_s = 2.0

"""
_ACCOUNT = """\

[providers.{account}]
provider = {provider}
base_url = {url}
{settings}
options = {{ {options} }}
"""
_RULE = """\

[[routing.rules]]
name = {rule}
currencies = ["CHF"]
accounts = [{away}, {account}]
"""


class Installation:
    """One imitation, `gateways` gateways on one database, one sidecar; leaving the block ends them all.

    `database_url` of a migrated PostgreSQL, "" for SQLite in the directory. `settings` are environment variables of all
    processes, such as OBOL_ENGINE__LEASE_S, over the file; what our own environment says of Obol is not passed on.
    `away`: with a second account of the provider's, at an address that refuses every connection, and a rule by which
    payments in CHF go there first.
    """

    def __init__(
        self,
        directory: Path,
        *,
        gateways: int = 1,
        database_url: str = "",
        settings: Mapping[str, str] | None = None,
        imitation: Imitation = SANDBOX,
        away: bool = False,
    ) -> None:
        self._away = refusing() if away else None
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.imitation = imitation
        self._settings = dict(settings or {})
        if database_url:
            self._settings["OBOL_DATABASE__URL"] = database_url
            # Gateways side by side have no file to share a key in.
            key = f"demo:{base64.b64encode(secrets.token_bytes(32)).decode()}"
            self._settings.setdefault("OBOL_SECRETS__SEALING_KEYS", json.dumps([key]))
        ports = free_ports(gateways + 2)
        self._provider_port, self._webhooks_port, *self._gateway_ports = ports
        self.provider = self._process(imitation.provider, *imitation.serve, "--port", str(self._provider_port))
        self.sidecar = self._process("sidecar", "webhooks")
        self.gateways = tuple(
            self._process("gateway" if gateways == 1 else f"gateway-{number}", "serve", OBOL_GRPC__PORT=str(port))
            for number, port in enumerate(self._gateway_ports)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def processes(self) -> tuple[Process, ...]:
        """All of them: the imitation, the gateways, the sidecar."""
        return (self.provider, *self.gateways, self.sidecar)

    @property
    def target(self) -> str:
        """The gRPC target of all gateways together."""
        return self.gateway_target() if len(self.gateways) == 1 else f"ipv4:{','.join(self._gateway_addresses)}"

    @property
    def provider_url(self) -> str:
        """Where the imitation is, and its controls under /control."""
        return f"http://{HOST}:{self._provider_port}"

    @property
    def sandbox_url(self) -> str:
        """The same, for those who know that it is the sandbox."""
        return self.provider_url

    @property
    def sidecar_url(self) -> str:
        """Where callbacks go, under /webhooks/<provider>/acct_main."""
        return f"http://{HOST}:{self._webhooks_port}"

    @property
    def database(self) -> Path:
        """The SQLite file, where it is one."""
        return self.data / "obol.db"

    @property
    def effect_log(self) -> Path:
        """What the imitation did, a line for each movement of money."""
        return self.data / self.imitation.directory / "effects.jsonl"

    def gateway_target(self, number: int = 0) -> str:
        """The gRPC target of one gateway."""
        return self._gateway_addresses[number]

    def start(self) -> None:
        """Start everything at once, and return when all of it serves. Raises ProcessDied, TookTooLong."""
        self.write_config()
        for process in self.processes:
            process.start()
        self.wait_ready()

    def write_config(self) -> None:
        """Write obol.toml, for whoever wants to start the processes one by one."""
        self.data.mkdir(parents=True, exist_ok=True)
        config = _CONFIG.format(
            # A JSON string is a TOML string.
            data=json.dumps(str(self.data)),
            webhooks=self._webhooks_port,
            gateways=json.dumps(self.target),
        )
        config += self._account(ACCOUNT, self.provider_url, **self.imitation.account)
        if self._away is not None:
            host, port = self._away.getsockname()
            own = {**self.imitation.account, "default": False}
            config += self._account(ACCOUNT_AWAY, f"http://{host}:{port}", **own)
            config += _RULE.format(
                rule=json.dumps(RULE_OF_AWAY), away=json.dumps(ACCOUNT_AWAY), account=json.dumps(ACCOUNT)
            )
        (self.directory / "obol.toml").write_text(config, encoding="utf-8")

    def wait_ready(self, *, within_s: float = READY_S_MAX) -> None:
        """Return when every process that runs serves. Raises ProcessDied, TookTooLong."""
        probes: list[tuple[Process, Callable[[], bool]]] = [
            (self.provider, lambda: answers(self.provider_url, "/control/webhooks")),
            *((process, self._serving(number)) for number, process in enumerate(self.gateways)),
            # Last: the sidecar is ready when the gateway is.
            (self.sidecar, lambda: answers(self.sidecar_url, "/readyz")),
        ]
        for process, ready in probes:
            if process.pid:
                wait_until(ready, f"the {process.name} serves", within_s=within_s, meanwhile=self.check)

    def check(self) -> None:
        """Raises ProcessDied where one that was started has ended."""
        for process in self.processes:
            if process.pid:
                process.check()

    def stop(self) -> list[str]:
        """End everything; the names of those that had to be killed."""
        killed = stop_all(self.processes, grace_s=STOP_S)
        if self._away is not None:
            self._away.close()
        return killed

    @property
    def _gateway_addresses(self) -> tuple[str, ...]:
        return tuple(f"{HOST}:{port}" for port in self._gateway_ports)

    def _account(self, account_id: str, url: str, **settings: str | bool | tuple[str, ...]) -> str:
        books = self.data / self.imitation.directory
        options = {
            name: value.format(url=self.provider_url, books=books) for name, value in self.imitation.options.items()
        }
        return _ACCOUNT.format(
            account=account_id,
            provider=json.dumps(self.imitation.provider),
            url=json.dumps(url),
            settings="\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items()),
            options=", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items()),
        )

    def _serving(self, number: int) -> Callable[[], bool]:
        return lambda: serves(self.gateway_target(number))

    def _process(self, name: str, *arguments: str, **environment: str) -> Process:
        inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith("OBOL_")}
        own = {"OBOL_CONFIG": str(self.directory / "obol.toml"), **self._settings, **environment}
        return Process(name, arguments, environment={**inherited, **own}, log=self.directory / f"{name}.log")


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nobody listens now, and which nobody else gets from here while we run.

    Raises OSError where they cannot be found.
    """
    found: list[int] = []
    for port in itertools.islice(_own_ports(), PORTS_SHARE):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"{count} free ports were not found among this process's {PORTS_SHARE}")


@functools.cache
def _own_ports() -> Iterator[int]:
    """The ports of this process's share, in turn and without end, so that none comes twice before it is used.

    A share is held by its first port in UDP, which nobody here speaks: the operating system lets one process have it,
    and takes it back however that process ends.
    """
    firsts = range(PORTS.start, PORTS.stop, PORTS_SHARE)
    for first in secrets.SystemRandom().sample(firsts, len(firsts)):
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            held.bind((HOST, first))
        except OSError:
            held.close()
            continue
        atexit.register(held.close)
        return itertools.cycle(range(first, first + PORTS_SHARE))
    raise OSError(f"all {len(firsts)} shares of the ports from {PORTS.start} to {PORTS.stop} are taken")


def refusing() -> socket.socket:
    """A port of this machine that is taken and not listened at: until it is closed, every connection is refused."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.bind((HOST, 0))
    return taken


def answers(url: str, path: str) -> bool:
    """Whether `GET path` is answered with 200."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=2 * PROBE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def serves(target: str) -> bool:
    """Whether the gateway at `target` says of itself that it serves."""
    with contextlib.suppress(OSError), socket.create_connection(_host_port(target), PROBE_S), channel(target) as probe:
        health = health_pb2_grpc.HealthStub(probe)
        with contextlib.suppress(grpc.RpcError):
            reply = health.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_S)
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
    return False


def _host_port(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    return host, int(port)
