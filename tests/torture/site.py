"""The site: one imitation of a provider that lives throughout, gateways and sidecars that die, and relays between them.

billing -> gateway-0, gateway-1 ... -> a Relay each -> provider -> CallbackRelay -> sidecar-0, sidecar-1 -> gateways
"""

import asyncio
import base64
import contextlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.demo.installation import ACCOUNT, HOST, answers, free_ports, serves
from tests.torture.callbacks import CallbackRelay
from tests.torture.nursery import FLIGHT, STALL, address_of
from tests.torture.processes import Nursery, Process
from tests.torture.relay import Relay
from tests.torture.tortured import SANDBOX, Tortured
from tests.torture.witness import Witness

READY_S_MAX = 60.0
LOOK_S = 0.02

LEASE_S = 3.0

SETTINGS: Mapping[str, str] = {
    "OBOL_METRICS__ENABLED": "false",
    "OBOL_DRAIN__GRACE_S": "2",
    "OBOL_DATABASE__POOL_MAX": "6",
    "OBOL_ENGINE__SEND_WINDOW_S": "1",
    "OBOL_ENGINE__PROVIDER_TIMEOUT_S": "1.5",
    "OBOL_ENGINE__LEASE_S": f"{LEASE_S:g}",
    "OBOL_ENGINE__DEADLINE_S_MIN": "0.2",
    "OBOL_ENGINE__ADMISSION_WAIT_S": "0.5",
    "OBOL_ENGINE__SETTLE_RETRY_S": "5",
    "OBOL_ENGINE__REPLAY_WAIT_S": "3",
    "OBOL_ENGINE__RECOVERY_POLL_S": "0.2",
    "OBOL_ENGINE__UNKNOWN_CHECK_FIRST_S": "0.3",
    "OBOL_ENGINE__UNKNOWN_CHECK_S_MAX": "3",
    "OBOL_ENGINE__PENDING_CHECK_FIRST_S": "1",
    "OBOL_ENGINE__PENDING_CHECK_S_MAX": "5",
    "OBOL_ENGINE__RESEND_AGE_S_MAX": "6",
    "OBOL_ENGINE__CALLBACK_WAIT_FIRST_S": "0.3",
    "OBOL_ENGINE__CALLBACK_WAIT_S_MAX": "3",
    "OBOL_ENGINE__SEQUENCER_POLL_S": "0.2",
    "OBOL_ENGINE__HEARTBEAT_S": "1",
}
"""The engine's durations, shortened: the proportions that it insists on hold."""
HANG_S = 4.0
"""How long the provider holds what it stalls, and a relay what it delays."""
FLIGHT_S = 12
PAUSE_S = 5.0
"""Longer than the lease: what holds one and stands still this long has lost it."""

_CONFIG = """\
data_dir = {data}

[providers.{account}]
provider = "{provider}"
base_url = "http://{host}:{sandbox}"
default = true
failures_max = 8
open_s = 0.5
{section}
"""
_OTHER = """\

[providers.{other}]
provider = "{provider}"
base_url = "http://{host}:{sandbox}"
failures_max = 8
open_s = 0.5
{section}

[[routing.rules]]
name = "shared"
payer_countries = ["{country}"]
accounts = ["{other}", "{account}"]
failover_on = ["not_sent", "soft_decline"]
"""
OTHER = "acct_other"
ROUTED_COUNTRY = "AT"
"""Payers from here are for a rule: first to the other account, then to the main one."""


class Site:
    """Everything of one run, out of one directory. `database_url` "" for SQLite in the directory."""

    def __init__(
        self,
        directory: Path,
        nursery: Nursery,
        *,
        gateways: int,
        sidecars: int,
        database_url: str,
        seed: int,
        tortured: Tortured = SANDBOX,
    ) -> None:
        self.tortured = tortured
        self.directory = directory
        self.data = directory / "data"
        self.database_url = database_url or f"sqlite+aiosqlite:///{self.data / 'obol.db'}"
        self._nursery = nursery
        key = f"torture:{base64.b64encode(secrets.token_bytes(32)).decode()}"
        # SQLite makes its own, and so is that tried as well.
        shared = {"OBOL_DATABASE__URL": database_url, "OBOL_SECRETS__SEALING_KEYS": json.dumps([key])}
        self._own = shared if database_url else {}
        ports = free_ports(3 * gateways + sidecars + 2)
        self.sandbox_port, callbacks_port = ports[:2]
        self._gateway_ports, rest = ports[2 : 2 + gateways], ports[2 + gateways :]
        relay_ports, other_ports = rest[:gateways], rest[gateways : 2 * gateways]
        self._sidecar_ports = rest[2 * gateways :]
        self.relays = [Relay(port, self.sandbox_port) for port in relay_ports]
        self.others = [Relay(port, self.sandbox_port) for port in other_ports] if tortured.other else []
        self.callbacks = CallbackRelay(callbacks_port, self._sidecar_ports, seed, tortured)
        self.targets = [f"{HOST}:{port}" for port in self._gateway_ports]
        self.target = f"ipv4:{','.join(self.targets)}"
        self.sandbox = self._process("provider", "imitation", *self._sandbox_arguments(callbacks_port))
        self.gateways = [
            self._process(f"gateway-{number}", "serve", grpc=port, provider=relay_port, other=other_port)
            for number, (port, relay_port, other_port) in enumerate(
                zip(self._gateway_ports, relay_ports, other_ports, strict=True)
            )
        ]
        self.witness = Witness(tortured.key_header, tortured.unkeyed)
        for relays in filter(None, (self.relays, self.others)):
            for gateway, relay in zip(self.gateways, relays, strict=True):
                relay.told = _Overheard(self.witness, gateway)
        self.sidecars = [
            self._process(f"sidecar-{number}", "webhooks", webhooks=port)
            for number, port in enumerate(self._sidecar_ports)
        ]

    @property
    def processes(self) -> list[Process]:
        """All of them."""
        return [self.sandbox, *self.gateways, *self.sidecars]

    def stall(self, gateway: Process) -> Path:
        """Let `gateway` stop itself between its next claim and its send; the file is gone once it does."""
        flag = self.directory / f"{gateway.name}.stall"
        flag.touch()
        return flag

    @property
    def sidecar_urls(self) -> list[str]:
        """Where this run's provider would call back, past the relay."""
        return [f"http://{HOST}:{port}/webhooks/{self.tortured.name}/{ACCOUNT}" for port in self._sidecar_ports]

    @property
    def effect_log(self) -> Path:
        """What the provider did."""
        return self.data / self.tortured.name / "effects.jsonl"

    async def open(self) -> None:
        """Start everything and wait until it serves."""
        (self.data / self.tortured.name).mkdir(parents=True)
        config = self._told(_CONFIG, self.tortured.section, data=json.dumps(str(self.data)))
        if self.tortured.other:
            config += self._told(_OTHER, self.tortured.other, other=OTHER, country=ROUTED_COUNTRY)
        (self.directory / "obol.toml").write_text(config)
        await asyncio.gather(*(relay.open() for relay in (*self.relays, *self.others)), self.callbacks.open())
        for process in self.processes:
            await process.start()
        await self.settled()

    async def close(self) -> list[str]:
        """End everything; the names of those that had to be killed."""
        slow = [p.name for p in (*self.sidecars, *self.gateways) if p.alive and not await p.stop(10.0)]
        await self.sandbox.stop(10.0)
        for relay in (*self.relays, *self.others):
            relay.close()
        await self.callbacks.close()
        return slow

    async def shut_other(self, shut: bool) -> None:
        """Let the other account refuse every connection, or take them again."""
        await asyncio.gather(*(relay.shut(shut) for relay in self.others))

    async def settled(self) -> None:
        """Wait until all of it serves, starting again what has ended meanwhile. Raises TimeoutError."""
        sandbox = partial(answers, f"http://{HOST}:{self.sandbox_port}", "/control/webhooks")
        async with asyncio.timeout(READY_S_MAX):
            await _until(sandbox, self.sandbox)
            await asyncio.gather(*map(self.serving, range(len(self.gateways))))
            for process, port in zip(self.sidecars, self._sidecar_ports, strict=True):
                # Last: a sidecar is ready when a gateway is.
                await _until(partial(answers, f"http://{HOST}:{port}", "/readyz"), process)

    async def serving(self, number: int) -> None:
        """Wait until this gateway serves, starting it again where it has ended."""
        await _until(partial(serves, f"{HOST}:{self._gateway_ports[number]}"), self.gateways[number])

    async def listening(self, number: int) -> None:
        """Wait until this gateway takes connections, or has ended."""
        while self.gateways[number].alive:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, self._gateway_ports[number])
                writer.close()
                return
            await asyncio.sleep(LOOK_S)

    def _sandbox_arguments(self, callbacks_port: int) -> list[str]:
        url = f"http://{HOST}:{callbacks_port}/webhooks/{self.tortured.name}/{{account}}"
        directory = str(self.data / self.tortured.name)
        arguments = {"port": self.sandbox_port, "data-dir": directory, "webhook-url": url, "hang-seconds": HANG_S}
        told = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        # One that refuses what is too much would hide that we asked for it.
        return [*told, "--trusting"]

    def _told(self, template: str, section: str, **values: str) -> str:
        url, books = f"http://{HOST}:{self.sandbox_port}", self.data / self.tortured.name
        return template.format(
            account=ACCOUNT,
            host=HOST,
            sandbox=self.sandbox_port,
            provider=self.tortured.name,
            section=section.format(url=url, books=books),
            **values,
        )

    def _process(
        self, name: str, *arguments: str, grpc: int = 0, provider: int = 0, other: int = 0, webhooks: int = 0
    ) -> Process:
        inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith("OBOL_")}
        ports = {
            "OBOL_GRPC__PORT": grpc,
            "OBOL_WEBHOOKS__PORT": webhooks,
        }
        own = {key: str(port) for key, port in ports.items() if port}
        if provider:
            own["OBOL_PROVIDERS__ACCT_MAIN__BASE_URL"] = f"http://{HOST}:{provider}"
        if other and self.tortured.other:
            own["OBOL_PROVIDERS__ACCT_OTHER__BASE_URL"] = f"http://{HOST}:{other}"
        if name.startswith("sidecar"):
            own["OBOL_WEBHOOKS__GATEWAY"] = self.target
        told = {"OBOL_CONFIG": str(self.directory / "obol.toml"), FLIGHT: str(FLIGHT_S), **SETTINGS}
        told |= {**self.tortured.settings, **self._own, **own}
        told[STALL] = str(self.directory / f"{name}.stall")
        return Process(self._nursery, name, arguments, {**inherited, **told}, self.directory / f"{name}.log")


@dataclass(frozen=True)
class _Overheard:
    """What a gateway's relay is told goes to the witness, under the gateway's name."""

    witness: Witness
    gateway: Process

    def sent(self, request: str, head: bytes) -> None:
        self.witness.saw(self.gateway.name, request, head)

    def given_up(self, request: str, head: bytes, age_s: float, sender: str) -> None:
        # Whoever dies hangs up as well, and its next life may have begun by now.
        if not self.gateway.is_doomed and sender == address_of(self.gateway.pid):
            self.witness.saw_given_up(self.gateway.name, request, head, age_s)


async def _until(ready: Callable[[], bool], process: Process) -> None:
    while True:
        if not process.alive:
            await process.start()
        if await asyncio.to_thread(ready):
            return
        await asyncio.sleep(LOOK_S)
