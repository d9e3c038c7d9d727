"""Latency under faults: what callers wait while a provider breaks one call in twenty, each way in which it can.

A sandbox in a process of its own, over HTTP as any provider. Where it keeps silent it does so for HANG_S, and closes.
The breaker is kept shut: an open one refuses at once, which would be another measurement.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import grpc.aio

from bench import requests
from bench.databases import Engine, fresh, meter_of
from bench.effort import RATIO_CALLERS, Effort
from bench.load import Call, Round, Send, run_round, sending
from bench.processes import Bench, Server
from obol.v1 import payment_gateway_pb2 as pb
from obol.v1 import payment_pb2

ACCOUNT = "acct_faulty"
HANG_S = 1.0
SHARE = 0.05
NONE = "none"
BREAKER_NEVER = 1_000_000


@dataclass(frozen=True, slots=True)
class UnderFault:
    """RATIO_CALLERS in a closed loop while `fault` meets SHARE of the writes; `outcomes` are what callers were told."""

    engine: str
    fault: str
    rate: float
    p50_ms: float
    p99_ms: float
    final: int
    unknown: int
    refused: int

    @classmethod
    def of(cls, engine: str, fault: str, round_: Round, told: Counter[str]) -> "UnderFault":
        """From a round, and how often each thing was told in it."""
        return cls(
            engine,
            fault,
            round_.rate,
            round_.percentile_ms(50),
            round_.percentile_ms(99),
            told["final"],
            told["unknown"],
            told["refused"],
        )


async def measure_faults(bench: Bench, engine: Engine, effort: Effort) -> list[UnderFault]:
    """First without a fault, then each one alone, healed in between."""
    url = fresh(engine, bench.folder, migrated=True)
    found = []
    with _sandbox(bench, engine) as sandbox, _gateway(bench, engine, url, sandbox) as gateway:
        meter = meter_of(engine, gateway)
        async with sending(gateway.address, requests.CREATE) as send, aiohttp.ClientSession() as control:
            for fault in (NONE, *effort.faults):
                told: Counter[str] = Counter()
                plan = {"seed": 1, "rates": {} if fault == NONE else {fault: SHARE}}
                async with control.post(f"http://{sandbox.address}/control/faults", json=plan) as answer:
                    answer.raise_for_status()
                round_ = await run_round(
                    _paying(send, told), callers=RATIO_CALLERS, seconds=effort.side_round_s, meter=meter
                )
                async with control.delete(f"http://{sandbox.address}/control/faults") as answer:
                    answer.raise_for_status()
                found.append(UnderFault.of(engine, fault, round_, told))
    return found


def _paying(send: Send, told: Counter[str]) -> Call:
    async def pay() -> None:
        try:
            reply = pb.CreatePaymentResponse.FromString(await send(requests.create(ACCOUNT, payment_method="card_ok")))
        except grpc.aio.AioRpcError:
            told["refused"] += 1
            return
        is_unknown = reply.payment.state == payment_pb2.PAYMENT_STATE_UNKNOWN
        told["unknown" if is_unknown else "final"] += 1

    return pay


def _sandbox(bench: Bench, engine: Engine) -> Server:
    books = bench.folder / f"sandbox-{engine}"
    books.mkdir()
    told = ["--port", "0", "--data-dir", str(books), "--hang-seconds", str(HANG_S)]
    return Server(f"sandbox-{engine}", ["-m", "simulators.sandbox", *told], bench.folder, bench.environment)


@contextlib.contextmanager
def _gateway(bench: Bench, engine: Engine, url: str, sandbox: Server) -> Iterator[Server]:
    config = bench.folder / f"faults-{engine}.toml"
    account = [
        f"[providers.{ACCOUNT}]",
        'provider = "sandbox"',
        f'base_url = "http://{sandbox.address}"',
        'api_key = "sandbox-key-main"',
        'webhook_secrets = ["sandbox-signing-main"]',
        f"failures_max = {BREAKER_NEVER}",
        "default = true",
    ]
    lines = ["[database]", f'url = "{url}"', "[grpc]", "port = 0", "[metrics]", "port = 0", *account]
    config.write_text("\n".join(lines) + "\n")
    name = f"faults-{engine}"
    with Server(name, ["-m", "gateway.cli", "serve", "--config", str(config)], bench.folder, bench.environment) as up:
        yield up
