"""An estate: what deploy/ describes, on one machine. Two gateways, two sidecars, six Envoys, a sandbox, a PostgreSQL.

callers -> front -> an Envoy each -> gateway-0, gateway-1 -> sandbox
           sandbox -> edge -> an Envoy each -> sidecar-0, sidecar-1 -> the same Envoys -> the gateways' Envoys
"""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio

from gateway.demo.installation import ACCOUNT, HOST, answers, free_ports, serves
from obol.client import aio_channel
from tests.e2e.replicas.certificates import Authority
from tests.e2e.replicas.envoys import ADMIN, CALLERS, PROBES, Envoy, place
from tests.torture.nursery import FLIGHT
from tests.torture.processes import Nursery, Process
from tests.torture.site import FLIGHT_S, SETTINGS

READY_S_MAX = 60.0
SOON_S = 20.0
LOOK_S = 0.05
ANNOUNCE_S = 3.0
GRACE_S = 5.0
HANG_S = 3.0
"""How long the provider holds what it stalls."""

_CONFIG = """\
data_dir = {data}

[providers.{account}]
provider = "sandbox"
base_url = "http://{host}:{sandbox}"
api_key = "sandbox-key-main"
webhook_secrets = ["sandbox-signing-main"]
default = true
failures_max = 8
open_s = 0.5
"""


class Estate:
    """Everything, out of one directory, over the PostgreSQL at `database_url`."""

    def __init__(self, directory: Path, nursery: Nursery, authority: Authority, database_url: str) -> None:
        self.directory = directory
        self.authority = authority
        self.database_url = database_url
        self.data = directory / "data"
        self._nursery = nursery
        ports = iter(free_ports(5 + 2 * 5 + 2 * 5 + 2 * 3 + 2))
        self.sandbox_port = next(ports)
        # Replicas share it: one opens what the other sealed.
        self._sealing_keys = json.dumps([f"estate:{base64.b64encode(secrets.token_bytes(32)).decode()}"])
        self._gateway_ports = [next(ports), next(ports)]
        self._metrics_ports = [next(ports), next(ports)]
        self._sidecar_ports = [next(ports), next(ports)]
        own = [{CALLERS: next(ports), PROBES: next(ports), ADMIN: next(ports)} for _ in range(6)]
        gateways = {"obol-gateway": [each[CALLERS] for each in own[:2]]}
        sidecars = {"obol-webhooks": [each[CALLERS] for each in own[2:4]]}
        self.beside_gateways = [
            self._envoy(f"gateway-{n}", "gateway", {**own[n], 50_051: self._gateway_ports[n]}, {}) for n in range(2)
        ]
        self.beside_sidecars = [
            self._envoy(
                f"webhooks-{n}",
                "webhooks",
                {**own[2 + n], 50_051: next(ports), 8_090: self._sidecar_ports[n]},
                gateways,
            )
            for n in range(2)
        ]
        self.front = self._envoy("front", "front", own[4], gateways)
        # A test does not wait for fifteen seconds of a body that drips in.
        self.edge = self._envoy("edge", "edge", own[5], sidecars, changed={"request_timeout": "1s"})
        self.sandbox = self._process("sandbox", "imitation", *self._sandbox_arguments())
        self.gateways = [
            self._process(
                *(f"gateway-{n}", "serve"),
                OBOL_GRPC__PORT=str(self._gateway_ports[n]),
                OBOL_METRICS__PORT=str(self._metrics_ports[n]),
            )
            for n in range(2)
        ]
        self.sidecars = [
            self._process(
                *(f"sidecar-{n}", "webhooks"),
                OBOL_WEBHOOKS__PORT=str(self._sidecar_ports[n]),
                # As in its own network namespace, where that is the Envoy beside it.
                OBOL_WEBHOOKS__GATEWAY=f"{HOST}:{self.beside_sidecars[n].ports[50_051]}",
            )
            for n in range(2)
        ]

    @property
    def envoys(self) -> list[Envoy]:
        """All six."""
        return [*self.beside_gateways, *self.beside_sidecars, self.front, self.edge]

    @property
    def effect_log(self) -> Path:
        """What the sandbox did."""
        return self.data / "sandbox" / "effects.jsonl"

    @property
    def sandbox_url(self) -> str:
        """Where the provider is, and its controls under /control."""
        return f"http://{HOST}:{self.sandbox_port}"

    @property
    def edge_url(self) -> str:
        """Where providers call."""
        return f"https://{HOST}:{self.edge.ports[CALLERS]}"

    async def open(self) -> None:
        """Start everything and wait until it serves."""
        (self.data / "sandbox").mkdir(parents=True)
        config = _CONFIG.format(data=json.dumps(str(self.data)), account=ACCOUNT, host=HOST, sandbox=self.sandbox_port)
        (self.directory / "obol.toml").write_text(config)
        for process in (self.sandbox, *self.gateways, *self.sidecars):
            await process.start()
        for envoy in self.envoys:
            envoy.start()
        sandbox = partial(answers, self.sandbox_url, "/control/webhooks")
        await until(lambda: asyncio.to_thread(sandbox), "the sandbox serves", within_s=READY_S_MAX)
        await self.balanced(within_s=READY_S_MAX)

    async def close(self) -> None:
        """End everything, at once: an orderly end is a test's own affair."""
        for process in (*self.sidecars, *self.gateways, self.sandbox):
            process.kill()
            await process.ended.wait()
        for envoy in self.envoys:
            envoy.stop()

    async def balanced(self, *, gateways: int = 2, sidecars: int = 2, within_s: float = SOON_S) -> None:
        """Wait until every Envoy gives calls to so many."""
        for envoy in (self.front, *self.beside_sidecars):
            await until(partial(_gives_calls_to, envoy, "gateways", gateways), "all gateways", within_s=within_s)
        await until(partial(_gives_calls_to, self.edge, "sidecars", sidecars), "all sidecars", within_s=within_s)

    async def revive(self, process: Process) -> None:
        """Start one again that has ended, and wait until it is given calls."""
        await process.start()
        if process in self.gateways:
            target = f"{HOST}:{self._gateway_ports[self.gateways.index(process)]}"
            await until(lambda: asyncio.to_thread(serves, target), f"{process.name} serves")
        await self.balanced()

    @asynccontextmanager
    async def calling(
        self,
        name: str = "obol-billing",
        *,
        envoy: Envoy | None = None,
        authority: Authority | None = None,
        kit: bool = False,
    ) -> AsyncIterator[grpc.aio.Channel]:
        """A channel to the front or another Envoy, with a certificate for `name`, "" for none.

        It repeats nothing, not even what was provably not taken; with `kit` it is as callers have it.
        """
        asked = envoy or self.front
        key, chain = (authority or self.authority).issue(name) if name else (None, None)
        credentials = grpc.ssl_channel_credentials(self.authority.pem, key, chain)
        options: list[tuple[str, object]] = [
            ("grpc.ssl_target_name_override", "obol-front" if asked is self.front else "obol-gateway"),
            *(() if kit else (("grpc.enable_retries", 0), ("grpc.service_config", "{}"))),
            ("grpc.max_reconnect_backoff_ms", 300),
            ("grpc.initial_reconnect_backoff_ms", 50),
            # Of its own: channels with equal arguments would share one connection.
            ("grpc.channel_id", os.urandom(8).hex()),
        ]
        async with aio_channel(f"{HOST}:{asked.ports[CALLERS]}", credentials=credentials, options=options) as channel:
            yield channel

    async def metric(self, number: int, line: str) -> float:
        """The value of one line of a gateway's exposition, 0 where there is none."""
        url = f"http://{HOST}:{self._metrics_ports[number]}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            for each in (await answer.text()).splitlines():
                if each.startswith(f"{line} "):
                    return float(each.rpartition(" ")[2])
        return 0.0

    def _envoy(
        self,
        own: str,
        name: str,
        ports: Mapping[int, int],
        upstreams: Mapping[str, list[int]],
        changed: Mapping[str, str] | None = None,
    ) -> Envoy:
        directory = self.directory / own
        self.authority.mount(directory / "tls", f"obol-{name}")
        self.authority.mount(directory / "public-tls", "localhost")
        return Envoy(place(name, directory, ports=ports, upstreams=upstreams, changed=changed), ports)

    def _sandbox_arguments(self) -> list[str]:
        # By name, so that the certificate is for it.
        url = f"https://localhost:{self.edge.ports[CALLERS]}/webhooks/sandbox/{{account}}"
        told = {
            "port": self.sandbox_port,
            "data-dir": self.data / "sandbox",
            "webhook-url": url,
            "hang-seconds": HANG_S,
        }
        return [word for name, value in told.items() for word in (f"--{name}", str(value))]

    def _process(self, name: str, *arguments: str, **own: str) -> Process:
        inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith("OBOL_")}
        told = {
            **SETTINGS,
            "OBOL_CONFIG": str(self.directory / "obol.toml"),
            "OBOL_DATABASE__URL": self.database_url,
            "OBOL_SECRETS__SEALING_KEYS": self._sealing_keys,
            "OBOL_METRICS__ENABLED": "true",
            "OBOL_DRAIN__ANNOUNCE_S": str(ANNOUNCE_S),
            "OBOL_DRAIN__GRACE_S": str(GRACE_S),
            FLIGHT: str(FLIGHT_S),
        }
        return Process(self._nursery, name, arguments, {**inherited, **told, **own}, self.directory / f"{name}.log")


@asynccontextmanager
async def an_estate(directory: Path, database_url: str) -> AsyncIterator[Estate]:
    """An estate that serves, for as long as the block lasts."""
    authority = Authority("test authority")
    (directory / "authority.pem").write_bytes(authority.pem)
    with _trusted(directory / "authority.pem"):
        nursery = Nursery()
        await nursery.__aenter__()
    try:
        estate = Estate(directory, nursery, authority, database_url)
        try:
            await estate.open()
            yield estate
        finally:
            await estate.close()
    finally:
        await nursery.__aexit__(None, None, None)


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, within_s: float = SOON_S) -> None:
    """Look until it holds. Raises AssertionError, which says `what` did not come."""
    by_s = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < by_s, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(LOOK_S)


async def _gives_calls_to(envoy: Envoy, cluster: str, number: int) -> bool:
    return await envoy.healthy(cluster) == number


@contextmanager
def _trusted(authority: Path) -> Iterator[None]:
    """For what is started in here the test's authority is the public one: the sandbox believes the edge by it."""
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(authority)
    try:
        yield
    finally:
        os.environ.pop("SSL_CERT_FILE")
        if before is not None:
            os.environ["SSL_CERT_FILE"] = before


def told(log: Path, event: str) -> list[dict[str, Any]]:
    """What a process of ours logged under `event`."""
    found = []
    for line in log.read_text().splitlines():
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("event") == event:
                found.append(said)
    return found
