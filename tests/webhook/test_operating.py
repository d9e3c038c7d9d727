"""What operators see of the sidecar, and how it begins and ends."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from providers.callbacks import CallbackSettings
from tests.webhook.sending import ACCOUNT, PATH, SECRET, event, get, post, signed
from tests.webhook.serving import Inbox, account, gateway, sidecar
from webhook_http.app import build_app
from webhook_http.server import serve
from webhook_http.settings import SidecarSettings

BODY = event()
ROOT = Path(__file__).resolve().parents[2]


async def test_ready_follows_the_gateway_and_healthy_does_not() -> None:
    """/readyz is 200 while the gateway's health says SERVING; /healthz is 200 all along."""
    async with sidecar() as up:
        assert (await get(up.port, "/readyz")).status == 200
        await up.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        await asyncio.sleep(0.1)
        assert (await get(up.port, "/readyz")).status == 503
        assert (await get(up.port, "/healthz")).status == 200
    async with sidecar(gateway_is_up=False) as up, asyncio.timeout(30):
        assert (await get(up.port, "/readyz")).status == 503
        assert (await get(up.port, "/healthz")).status == 200


async def test_the_gateway_is_asked_once_for_many_probes() -> None:
    """Probes at the same time share one question and its answer."""
    async with sidecar(gateway_is_up=False) as up, asyncio.timeout(15):
        answers = await asyncio.gather(*(get(up.port, "/readyz") for _ in range(20)))
    assert {answer.status for answer in answers} == {503}


async def test_metrics_count_by_account_and_nobody_can_add_labels() -> None:
    """Callbacks are counted by provider, account, status and outcome; what strangers make up is "unknown"."""
    async with sidecar() as up:
        await post(up.port, BODY, signed(BODY))
        await post(up.port, BODY, signed(BODY))
        await post(up.port, BODY, signed(BODY, at_s=1))
        for number in range(30):
            await post(up.port, BODY, signed(BODY), path=f"/webhooks/made-up-{number}/x{number}")
        text = (await get(up.port, "/metrics")).body.decode()
    counted = 'obol_webhook_callbacks_total{account="%s",outcome="%s",provider="%s",status="%d"}'
    assert counted % (ACCOUNT, "KEPT", "sandbox", 200) + " 1.0" in text
    assert counted % (ACCOUNT, "DUPLICATE", "sandbox", 200) + " 1.0" in text
    assert counted % (ACCOUNT, "STALE", "sandbox", 401) + " 1.0" in text
    assert counted % ("unknown", "UNKNOWN_ACCOUNT", "unknown", 401) + " 30.0" in text
    assert "made-up" not in text
    assert "obol_webhook_seconds_bucket" in text


async def test_logs_hold_no_body_no_signature_and_no_secret() -> None:
    """Each callback has its line, with its event and outcome, and without anything that was sent in confidence."""
    body = event("evt_logged", card="4242424242424242")
    async with sidecar() as up:
        await post(up.port, body, signed(body))
        await post(up.port, body, signed(body, secret="whsec_other"))
        await post(up.port, b"{" + body, signed(b"{" + body))
        lines = [line for line in up.lines if line["event"] == "callback"]
        metadata = up.inbox.metadata[0]
    assert [(line["status"], line["outcome"]) for line in lines] == [
        (200, "KEPT"),
        (401, "FORGED"),
        (400, "UNREADABLE"),
    ]
    assert (lines[0]["event_id"], lines[0]["correlation_id"]) == ("evt_logged", metadata["obol-correlation-id"])
    for told in ("4242", SECRET, "v1=", dict(signed(body))["Sandbox-Signature"]):
        assert str(told) not in str(lines)


def test_settings_do_not_show_their_secrets() -> None:
    """A repr of the settings, as a traceback or a debugger prints it, holds no secret."""
    assert SECRET not in repr(SidecarSettings("unix:/x", (account(ACCOUNT, SECRET),)))


@pytest.mark.parametrize(
    "accounts",
    [
        (account(ACCOUNT, SECRET), account(ACCOUNT, SECRET)),
        (account("acct/shop", SECRET),),
        (account("", SECRET),),
        (account("x" * 61, SECRET),),
    ],
)
def test_accounts_must_be_told_apart_by_their_paths(accounts: tuple[CallbackSettings, ...]) -> None:
    """Two of one name, or a name that fits in no path, are refused before anything listens."""
    with pytest.raises(ValueError, match=r"account|called back"):
        SidecarSettings("unix:/x", accounts)


def test_a_provider_without_a_verifier_is_refused_at_the_start() -> None:
    """The sidecar does not begin with accounts that it cannot verify."""
    with pytest.raises(ValueError, match="nobody"):
        build_app(SidecarSettings("unix:/x", (CallbackSettings("nobody", "acct_1", ()),)))


async def test_an_address_that_is_taken_is_refused() -> None:
    """A second sidecar does not share the first one's port in silence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = SidecarSettings("unix:/x", listen_port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await serve(settings)


async def test_the_default_address_is_loopback() -> None:
    """Nothing listens to the world unless it is told to."""
    assert SidecarSettings("unix:/x").listen_host == "127.0.0.1"


PROGRAM = """
import asyncio, sys, time
from providers.callbacks import CallbackSettings
from providers.secret import Secret
from webhook_http.server import run
from webhook_http.settings import SidecarSettings
run(SidecarSettings(sys.argv[1], (CallbackSettings("sandbox", "acct_shop", (Secret("whsec_first"),)),), listen_port=0))
"""


async def test_sigterm_lets_a_callback_finish() -> None:
    """At SIGTERM what is under way gets its answer, and the process ends with 0 and JSON on every line."""
    release = asyncio.Event()

    async def wait(context: object) -> None:
        await release.wait()

    inbox = Inbox(before=wait)
    with tempfile.TemporaryDirectory(prefix="obol-") as directory:
        target = f"unix:{Path(directory) / 'grpc.sock'}"
        async with gateway(inbox, target):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, target, stderr=subprocess.PIPE, cwd=ROOT
            )
            assert process.stderr is not None
            listening = json.loads(await process.stderr.readline())
            assert (listening["event"], listening["host"]) == ("listening", "127.0.0.1")
            body = event()
            answering = asyncio.create_task(post(listening["port"], body, signed(body, at_s=time.time())))
            async with asyncio.timeout(10):
                await inbox.arrivals.acquire()
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert process.returncode is None
            release.set()
            assert (await answering).status == 200
            lines = [json.loads(line) for line in (await process.stderr.read()).splitlines()]
            assert await process.wait() == 0
    assert [line["event"] for line in lines] == ["callback", "stopped"]


async def test_signals_stay_their_owners_where_a_stop_is_given() -> None:
    """Inside another program the sidecar leaves SIGTERM and SIGINT as they are."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with sidecar():
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_the_sidecar_loads_no_server_code() -> None:
    """Neither the gateway's rooms but the domain, nor a database, an SDK or an HTTP client of a provider's."""
    code = (
        "import sys, webhook_http.server; from providers.callbacks import CallbackSettings, build_verifier; "
        "build_verifier(CallbackSettings('sandbox', 'a', ())); "
        "rooms = {'gateway.' + room for room in ('app', 'rpc', 'main', 'cli', 'config')}; "
        "foreign = {'sqlalchemy', 'stripe', 'aiohttp', 'store', 'simulators', 'providers.http', 'providers.registry'}; "
        "assert not (rooms | foreign) & set(sys.modules), (rooms | foreign) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_path_of_an_account_is_as_told() -> None:
    """/webhooks/<provider>/<account>, which is what operators give to a provider."""
    assert PATH == "/webhooks/sandbox/acct_shop"
