"""The `obol` command as a process of its own: signals, ports, workers."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import psutil
import pytest

from obol.v1 import billing_observation_pb2 as observing
from obol.v1 import billing_observation_pb2_grpc, money_pb2, payment_gateway_pb2_grpc, payment_pb2
from obol.v1 import payment_gateway_pb2 as pb
from tests import databases
from tests.rpc.serving import CONTEXT, told

STARTED_S_MAX = 60.0

pytestmark = pytest.mark.slow


@asynccontextmanager
async def obol(directory: Path, *arguments: str, **settings: str) -> AsyncIterator[Process]:
    """Run `obol` in `directory` with `settings` in its environment; killed at the end where it still runs."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OBOL_")}
    environment |= {"OBOL_METRICS__PORT": "0", "OBOL_GRPC__PORT": "0", "OBOL_DRAIN__GRACE_S": "10", **settings}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *arguments), cwd=directory, env=environment, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def serving_at(process: Process) -> str:
    """The address that it says it serves at."""
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), STARTED_S_MAX)).decode()
    assert " serves at " in line, line + (await process.stderr.read()).decode() if process.stderr else line
    return line.partition(" serves at ")[2].split(",")[0].strip()


async def ended(process: Process, timeout_s: float = STARTED_S_MAX) -> tuple[int, str]:
    """Its exit code and what it said on standard error."""
    _, said = await asyncio.wait_for(process.communicate(), timeout_s)
    assert process.returncode is not None
    return process.returncode, said.decode()


def sandboxed(url: str) -> dict[str, str]:
    """The settings of one account at that sandbox."""
    account = f'{{"provider": "sandbox", "base_url": "{url}", "api_key": "sandbox-key-main"}}'
    return {"OBOL_PROVIDERS": f'{{"acct_main": {account}}}'}


async def stalled(control: aiohttp.ClientSession) -> None:
    """Wait until the sandbox holds a request."""
    # Not an event: what is waited for is in another process.
    while not (await (await control.get("/control/faults")).json())["injected"]:  # noqa: ASYNC110  as said above
        await asyncio.sleep(0.02)


def create(key: str) -> pb.CreatePaymentRequest:
    """A payment that the sandbox approves."""
    amount = money_pb2.Money(amount_minor=1999, currency_code="EUR")
    return pb.CreatePaymentRequest(idempotency_key=key, amount=amount, payment_method="card_ok")


async def test_a_sigterm_lets_the_call_under_way_finish(tmp_path: Path, sandbox_url: str) -> None:
    """A payment that waits for its provider gets its answer, a watching stream is told, and the exit code is 0."""
    async with (
        obol(tmp_path, "serve", **sandboxed(sandbox_url)) as process,
        aiohttp.ClientSession(sandbox_url) as control,
    ):
        async with grpc.aio.insecure_channel(await serving_at(process)) as channel:
            rpc: Any = payment_gateway_pb2_grpc.PaymentGatewayStub(channel)
            watcher: Any = billing_observation_pb2_grpc.BillingObservationStub(channel)
            stream = watcher.WatchObservations(observing.WatchObservationsRequest(), metadata=CONTEXT)
            await stream.read()
            await control.post("/control/faults", json={"next": [{"fault": "stall"}]})
            call = asyncio.ensure_future(rpc.CreatePayment(create("k1"), metadata=CONTEXT, timeout=30))
            await stalled(control)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert told(caught.value).info.reason == "DRAINING"
            assert not call.done()
            await control.delete("/control/faults")
            assert (await call).payment.state == payment_pb2.PAYMENT_STATE_CAPTURED
        code, said = await ended(process)
    assert (code, "stopped" in said) == (0, True)
    assert "Traceback" not in said


async def test_a_call_whose_caller_has_left_is_not_abandoned_by_a_sigterm(tmp_path: Path, sandbox_url: str) -> None:
    """The process ends only when the provider has answered: after a restart the payment is captured, not unknown."""
    async with (
        obol(tmp_path, "serve", **sandboxed(sandbox_url)) as process,
        aiohttp.ClientSession(sandbox_url) as control,
    ):
        async with grpc.aio.insecure_channel(await serving_at(process)) as channel:
            rpc: Any = payment_gateway_pb2_grpc.PaymentGatewayStub(channel)
            await control.post("/control/faults", json={"next": [{"fault": "stall"}]})
            call = rpc.CreatePayment(create("k1"), metadata=CONTEXT, timeout=30)
            await stalled(control)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert process.returncode is None
        await control.delete("/control/faults")
        assert (await ended(process))[0] == 0
    # A provider that nobody can reach: what is known now was known before the end.
    async with obol(tmp_path, "serve", **sandboxed("http://127.0.0.1:1")) as process:
        async with grpc.aio.insecure_channel(await serving_at(process)) as channel:
            rpc = payment_gateway_pb2_grpc.PaymentGatewayStub(channel)
            made = await rpc.CreatePayment(create("k1"), metadata=CONTEXT, timeout=30)
        assert made.payment.state == payment_pb2.PAYMENT_STATE_CAPTURED


@pytest.mark.parametrize("reuse", [False, True])
async def test_a_port_in_use_is_one_clear_line(tmp_path: Path, reuse: bool) -> None:
    """Also where the other one would share its port: nobody joins in silence. Exit code 1, no traceback."""
    with closing(socket.socket()) as other:
        if reuse:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        async with obol(tmp_path, "serve", OBOL_GRPC__PORT=port) as process:
            code, said = await ended(process)
    assert code == 1
    assert said.count("\n") == 1
    assert f"grpc.port: port {port} is in use" in said


async def test_a_metrics_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """The line names the setting, so that nobody looks at the gRPC port for it. Exit code 1."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        async with obol(tmp_path, "serve", OBOL_METRICS__PORT=port) as process:
            code, said = await ended(process)
    assert code == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(f"obol: metrics.port: cannot listen at 127.0.0.1, port {port}")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104  refused, that is the point
async def test_a_public_address_is_refused(tmp_path: Path, host: str) -> None:
    """While callers are not authenticated the gateway serves loopback alone; the line names the setting. Code 2."""
    async with obol(tmp_path, "serve", OBOL_GRPC__HOST=host) as process:
        code, said = await ended(process)
    assert code == 2
    assert said.startswith("obol: grpc.host: ")
    assert "not authenticated" in said
    assert said.count("\n") == 1


async def test_a_configuration_that_cannot_be_read_is_one_clear_line_for_each_problem(tmp_path: Path) -> None:
    """Each line names the setting and where it came from; no secret, no traceback. Exit code 2."""
    (tmp_path / "obol.toml").write_text('[grpc]\nprot = 1\n[providers.a]\nprovider = "sandbox"\napi_key = 77777777\n')
    async with obol(tmp_path, "serve", OBOL_LOGS__LEVEL="loud") as process:
        code, said = await ended(process)
    assert code == 2
    lines = said.splitlines()
    assert [line.split(" (from ")[0] for line in lines] == [
        "obol: grpc.prot",
        "obol: logs.level",
        "obol: providers.a.api_key",
    ]
    assert "the file obol.toml" in lines[0]
    assert "the environment, OBOL_LOGS__LEVEL" in lines[1]
    assert "77777777" not in said


async def test_a_database_that_is_behind_is_not_served(tmp_path: Path) -> None:
    """PostgreSQL is migrated by `obol migrate` and by nothing else; the line says so. Exit code 1."""
    url = databases.postgresql_url(migrated=False)
    try:
        async with obol(tmp_path, "serve", OBOL_DATABASE__URL=url) as process:
            code, said = await ended(process)
        assert (code, "obol migrate" in said, said.count("\n")) == (1, True, 1)
        async with obol(tmp_path, "migrate", OBOL_DATABASE__URL=url) as process:
            assert (await ended(process))[0] == 0
        async with obol(tmp_path, "serve", OBOL_DATABASE__URL=url) as process:
            await serving_at(process)
            process.send_signal(signal.SIGINT)
            assert (await ended(process))[0] == 0
    finally:
        databases.drop(url)


async def test_workers_share_a_port_are_restarted_and_end_together(tmp_path: Path, sandbox_url: str) -> None:
    """Two processes behind one port: a killed one comes back, a second gateway is refused, SIGTERM ends all of them."""
    url = databases.postgresql_url()
    settings = {"OBOL_DATABASE__URL": url, **sandboxed(sandbox_url)}
    try:
        async with obol(tmp_path, "serve", "--workers", "2", **settings) as process:
            address = await serving_at(process)
            assert await serving_at(process) == address
            workers = psutil.Process(process.pid).children()
            assert len(workers) == 2
            for number in range(20):
                # A channel for each call: connections are what the kernel spreads.
                options = [("grpc.use_local_subchannel_pool", 1)]
                async with grpc.aio.insecure_channel(address, options=options) as channel:
                    rpc: Any = payment_gateway_pb2_grpc.PaymentGatewayStub(channel)
                    await rpc.CreatePayment(create(f"k{number}"), metadata=CONTEXT, timeout=10)
            port = address.rpartition(":")[2]
            async with obol(tmp_path, "serve", "--workers", "2", **{**settings, "OBOL_GRPC__PORT": port}) as second:
                code, said = await ended(second)
                assert (code, f"port {port} is in use" in said) == (1, True)
            workers[0].kill()
            assert await serving_at(process) == address
            assert workers[1].is_running()
            process.send_signal(signal.SIGTERM)
            code, said = await ended(process)
        assert code == 0
        assert "worker 0" in said
        assert "ended with -9" in said
        assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    finally:
        databases.drop(url)


async def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    """A supervisor that is killed leaves no gateway behind that nobody watches."""
    url = databases.postgresql_url()
    try:
        async with obol(tmp_path, "serve", "--workers", "2", OBOL_DATABASE__URL=url) as process:
            for _ in range(2):
                await serving_at(process)
            workers = psutil.Process(process.pid).children()
            process.kill()
            _, alive = await asyncio.to_thread(psutil.wait_procs, workers, timeout=20)
        assert alive == []
    finally:
        databases.drop(url)


async def test_workers_need_postgresql(tmp_path: Path) -> None:
    """SQLite has one writing process: more workers are refused before anything is opened. Exit code 2."""
    async with obol(tmp_path, "serve", "--workers", "2") as process:
        code, said = await ended(process)
    assert code == 2
    assert said.startswith("obol: grpc.workers (from the command line): SQLite has one writing process")
