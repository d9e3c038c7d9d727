"""The Envoys of deploy/envoy, driven: who gets a call, who gets it again, and who may call at all."""

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import Sequence
from typing import Any

import aiohttp
import grpc.aio
import pytest

from gateway.demo.figures import read_effects
from obol.client import AioPaymentGatewayClient, Caller, aio_repeat_until_answered
from obol.v1 import payment_gateway_pb2 as paying
from obol.v1 import provider_callbacks_pb2 as delivering
from obol.v1.money_pb2 import Money
from obol.v1.payment_gateway_pb2_grpc import PaymentGatewayStub
from obol.v1.payment_pb2 import PaymentState
from obol.v1.provider_callbacks_pb2_grpc import ProviderCallbacksStub
from tests.deploy.reading import DEPLOY, documents
from tests.e2e.replicas.certificates import Authority
from tests.e2e.replicas.envoys import ADMIN, CALLERS, PROBES, Envoy
from tests.e2e.replicas.estate import Estate, until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

CALLER = Caller(tenant="acme", organization="acme-eu", actor="test")
CREATE = "/obol.v1.PaymentGateway/CreatePayment"
LIST = "/obol.v1.PaymentGateway/ListPayments"
IN_FLIGHT = 'obol_rpcs_in_flight{rpc="PaymentGateway/CreatePayment"}'
WISHES = (
    ("x-envoy-retry-on", "5xx,reset,connect-failure,reset-before-request"),
    ("x-envoy-retry-grpc-on", "unavailable,cancelled"),
    ("x-envoy-max-retries", "5"),
)
"""What makes an Envoy repeat a request, whatever its routes say."""


def creation(key: str) -> paying.CreatePaymentRequest:
    """A payment that the sandbox approves."""
    amount = Money(amount_minor=4_990, currency_code="EUR")
    return paying.CreatePaymentRequest(idempotency_key=key, amount=amount, payment_method="card_ok")


async def fault(estate: Estate, *queued: str) -> None:
    """The provider's next writes go wrong so; none: what stalls goes on and nothing more goes wrong."""
    async with aiohttp.ClientSession() as session:
        url = f"{estate.sandbox_url}/control/faults"
        if queued:
            plan = {"next": [{"fault": name, "match": "payments"} for name in queued]}
            await (await session.post(url, json=plan)).read()
        else:
            await (await session.delete(url)).read()


def calls_of(envoys: Sequence[Envoy], **wanted: str) -> list[list[dict[str, Any]]]:
    """For each Envoy the calls in its log whose fields are as `wanted`."""
    return [[call for call in envoy.calls() if wanted.items() <= call.items()] for envoy in envoys]


async def logged(envoy: Envoy, number: int, **wanted: str) -> list[dict[str, Any]]:
    """Wait until an Envoy has logged so many calls."""

    async def there() -> bool:
        return len(calls_of([envoy], **wanted)[0]) >= number

    await until(there, f"{number} calls with {wanted} in the log")
    return calls_of([envoy], **wanted)[0]


async def logged_by_status(envoy: Envoy, status: int) -> list[dict[str, Any]]:
    """Wait until an Envoy has logged a call with this HTTP status."""

    async def there() -> bool:
        return any(call["status"] == status for call in envoy.calls())

    await until(there, f"a call with {status} in the log")
    return [call for call in envoy.calls() if call["status"] == status]


async def asked(channel: grpc.aio.Channel, path: str, body: bytes = b"") -> tuple[grpc.StatusCode, bytes]:
    """How a call ends that no stub makes, and its reply."""
    method: Any = channel.unary_unary(path)
    try:
        return grpc.StatusCode.OK, await method(body, timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code(), b""


async def test_calls_are_spread_over_both_gateways(estate: Estate) -> None:
    """Round robin: of twenty reads over one connection each gateway gets ten."""
    async with estate.calling() as channel:
        client = AioPaymentGatewayClient(channel, CALLER)

        async def both_were_asked() -> bool:
            await client.list_payments(paying.ListPaymentsRequest())
            return all(calls_of(estate.beside_gateways, path=LIST))

        # The front's worker hears a little later than its administration that a gateway is healthy.
        await until(both_were_asked, "both gateways were asked")
        own = [f"spread-{number}" for number in range(20)]
        for correlation_id in own:
            await client.list_payments(paying.ListPaymentsRequest(), correlation_id=correlation_id)
    seen = [0, 0]

    async def all_are_logged() -> bool:
        seen[:] = [sum(call["correlation_id"] in own for call in envoy.calls()) for envoy in estate.beside_gateways]
        return sum(seen) == 20

    await until(all_are_logged, "the calls are logged")
    assert seen == [10, 10]


async def test_a_command_whose_gateway_dies_is_nobody_elses_to_repeat(estate: Estate) -> None:
    """Killed with the charge made: UNAVAILABLE, and one gateway saw it, whatever the headers ask; its key ends it."""
    effects = len(read_effects(estate.effect_log))
    await fault(estate, "timeout_after")
    correlation_id = "dies-in-the-middle"
    metadata = (*CALLER.metadata(correlation_id), *WISHES)
    async with estate.calling() as channel:
        call = PaymentGatewayStub(channel).CreatePayment(creation("mid-call-1"), metadata=metadata, timeout=30)
        asked = asyncio.ensure_future(call)
        busy: list[int] = []

        async def charged() -> bool:
            busy[:] = [n for n in range(2) if await estate.metric(n, IN_FLIGHT)]
            return bool(busy) and len(read_effects(estate.effect_log)) > effects

        await until(charged, "a gateway is at it, and the provider has charged")
        assert len(busy) == 1
        estate.gateways[busy[0]].kill()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        (told,) = await logged(estate.front, 1, correlation_id=correlation_id)
        assert (told["path"], told["attempts"]) == (CREATE, 1)
        client = AioPaymentGatewayClient(channel, CALLER)
        payment = (await aio_repeat_until_answered(client.create_payment, creation("mid-call-1"))).payment

        async def captured() -> bool:
            found = await client.get_payment(paying.GetPaymentRequest(payment_id=payment.payment_id))
            return found.payment.state == PaymentState.PAYMENT_STATE_CAPTURED

        await until(captured, "the payment is captured")
    assert len(read_effects(estate.effect_log)) == effects + 1
    await estate.revive(estate.gateways[busy[0]])
    await logged(estate.beside_gateways[busy[0]], 1, correlation_id=correlation_id)
    assert calls_of(estate.beside_gateways, correlation_id=correlation_id)[1 - busy[0]] == []


async def test_a_provider_that_is_gone_ejects_no_gateway(estate: Estate) -> None:
    """Forty answers of UNAVAILABLE are answers: both gateways stay, and a read goes to either."""
    await fault(estate, *["reset_before"] * 60)
    codes: Counter[str] = Counter()
    async with estate.calling() as channel:
        stub = PaymentGatewayStub(channel)

        async def one(number: int) -> None:
            try:
                await stub.CreatePayment(
                    creation(f"gone-{number}"), metadata=CALLER.metadata(f"gone-{number}"), timeout=10
                )
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1

        for number in range(0, 60, 10):
            await asyncio.gather(*(one(number + each) for each in range(10)))
        assert codes["UNAVAILABLE"] >= 20, codes
        assert await estate.front.healthy("gateways") == 2
        await fault(estate)


@pytest.mark.parametrize("which", ["front", "gateway"])
async def test_a_caller_without_a_certificate_of_ours_is_refused(estate: Estate, which: str) -> None:
    """Neither none nor another authority's gets through the handshake, at the front and at a gateway's own door."""
    envoy = estate.front if which == "front" else estate.beside_gateways[0]
    before = len(envoy.calls())
    for name, authority in (("", None), ("obol-billing", Authority("a stranger"))):
        async with estate.calling(name, envoy=envoy, authority=authority) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await PaymentGatewayStub(channel).ListPayments(
                    paying.ListPaymentsRequest(), metadata=CALLER.metadata("refused"), timeout=3
                )
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert [call for call in envoy.calls()[before:] if call["correlation_id"] == "refused"] == []


async def test_a_certificate_may_call_what_it_is_for(estate: Estate) -> None:
    """At a gateway's door callbacks are the sidecars' alone, and payments neither theirs nor the edge's."""
    door = estate.beside_gateways[0]
    deliver, read = delivering.DeliverCallbackRequest(), paying.ListPaymentsRequest()
    codes = {}
    for name in ("obol-billing", "obol-front", "obol-webhooks", "obol-edge"):
        async with estate.calling(name, envoy=door) as channel:
            for what, call in (
                ("callbacks", ProviderCallbacksStub(channel).DeliverCallback(deliver, timeout=10)),
                (
                    "payments",
                    PaymentGatewayStub(channel).ListPayments(read, metadata=CALLER.metadata("may"), timeout=10),
                ),
            ):
                codes[name, what] = await call.code()
    refused = grpc.StatusCode.PERMISSION_DENIED
    assert {what for what, code in codes.items() if code is refused} == {
        ("obol-billing", "callbacks"),
        ("obol-front", "callbacks"),
        ("obol-webhooks", "payments"),
        ("obol-edge", "callbacks"),
        ("obol-edge", "payments"),
    }
    assert codes["obol-billing", "payments"] is grpc.StatusCode.OK
    assert codes["obol-webhooks", "callbacks"] is grpc.StatusCode.INVALID_ARGUMENT  # the gateway's own word


async def test_what_is_for_loopback_has_no_way_in(estate: Estate) -> None:
    """The front knows no callbacks and no Operations; the sidecar's way to the gateways knows no payments."""
    async with estate.calling() as channel:
        for path in ("/obol.v1.ProviderCallbacks/DeliverCallback", "/obol.v1.Operations/ListProviders"):
            assert await asked(channel, path) == (grpc.StatusCode.UNIMPLEMENTED, b"")
    egress = f"127.0.0.1:{estate.beside_sidecars[0].ports[50_051]}"
    async with grpc.aio.insecure_channel(egress) as channel:
        call = PaymentGatewayStub(channel).CreatePayment(creation("no-way"), metadata=CALLER.metadata("no"), timeout=5)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_no_log_has_what_metadata_holds(estate: Estate) -> None:
    """A credential in the metadata of a call, or in a callback's headers or query, is in no Envoy's log."""
    secret = os.urandom(12).hex()
    async with estate.calling() as channel:
        metadata = (*CALLER.metadata("has-a-secret"), ("authorization", secret), ("obol-secret", secret))
        await (
            PaymentGatewayStub(channel).ListPayments(paying.ListPaymentsRequest(), metadata=metadata, timeout=5).code()
        )
    async with aiohttp.ClientSession() as session:
        url = f"{estate.edge_url}/webhooks/sandbox/acct_main?token={secret}"
        await session.post(url, data=secret, headers={"sandbox-signature": secret, "cookie": secret}, ssl=False)
    await logged(estate.front, 1, correlation_id="has-a-secret")
    await logged(estate.edge, 1, path="/webhooks/sandbox/acct_main", method="POST")
    for envoy in estate.envoys:
        assert secret not in envoy.log.read_text(), envoy.log


async def test_the_edge_bounds_what_providers_send(estate: Estate) -> None:
    """Too large is 413 and too slow 408, before a sidecar hears of it; what is no callback is not there at all."""

    async def drip() -> Any:
        for _ in range(10):
            yield b"x"
            await asyncio.sleep(0.3)

    async with aiohttp.ClientSession(estate.edge_url) as session:

        async def status(method: str, path: str, data: Any = None) -> int:
            headers = {"Content-Type": "application/json"}
            async with session.request(method, path, data=data, headers=headers, ssl=False) as answer:
                return answer.status

        webhook = "/webhooks/sandbox/acct_main"
        assert await status("POST", webhook, b"x" * (256 * 1024 + 1)) == 413
        assert await status("POST", webhook, drip()) == 408
        for status_code in (413, 408):
            (told,) = [call for call in await logged_by_status(estate.edge, status_code) if call["path"] == webhook]
            assert told["upstream"] is None
        for method, path in (
            ("GET", "/metrics"),
            ("GET", "/readyz"),
            ("GET", webhook),
            ("POST", "/webhooks/sandbox"),
            ("POST", "/webhooks/sandbox/acct%2Fmain"),
            ("POST", "/webhooks/../metrics"),
        ):
            assert await status(method, path) in (400, 404), (method, path)
        # An honest size gets to a sidecar, which has its own word on a body without a signature.
        assert await status("POST", webhook, b"x" * 256 * 1024) == 401


async def test_probes_tell_what_they_are_asked(estate: Estate) -> None:
    """The front is ready while a gateway serves; a gateway's probe port knows its health and nothing else."""
    await estate.front.ask("GET", "/ready", port=PROBES)
    await estate.edge.ask("GET", "/ready", port=PROBES)
    await estate.beside_sidecars[0].ask("GET", "/readyz", port=PROBES)
    assert "obol_webhook_callbacks" in await estate.beside_sidecars[0].ask("GET", "/metrics", port=PROBES)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{estate.beside_gateways[0].ports[PROBES]}") as channel:
        for service in (b"", b"\n\x16obol.v1.PaymentGateway", b"\n\x0cobol.process"):
            assert await asked(channel, "/grpc.health.v1.Health/Check", service) == (grpc.StatusCode.OK, b"\x08\x01")
        for path in (LIST, CREATE, "/grpc.health.v1.Health/Watch"):
            assert await asked(channel, path) == (grpc.StatusCode.UNIMPLEMENTED, b"")


async def test_a_front_that_leaves_says_so_and_answers_meanwhile(estate: Estate) -> None:
    """The manifest's preStop: not ready, GOAWAY to those who call, and no call lost by it."""
    (deployment, *_) = documents(DEPLOY / "kubernetes" / "front.yaml")
    bash, option, script = deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"][
        "command"
    ]
    script = script.replace(str(ADMIN), str(estate.front.ports[ADMIN])).replace("sleep 65", "")
    drained = "http.callers.downstream_cx_drain_close"
    async with estate.calling(kit=True) as channel:
        client = AioPaymentGatewayClient(channel, CALLER)
        await client.list_payments(paying.ListPaymentsRequest())
        before = await estate.front.ask("GET", f"/stats?filter={drained}")
        leaving = await asyncio.create_subprocess_exec(bash, option, script, stdout=asyncio.subprocess.PIPE)
        said, _ = await leaving.communicate()
        try:
            assert (leaving.returncode, b"200 OK" in said) == (0, True)
            with pytest.raises(aiohttp.ClientResponseError, match="503"):
                await estate.front.ask("GET", "/ready", port=PROBES)
            # Commands: nothing repeats them but gRPC itself, what it knows that the front did not take.
            for number in range(5):
                await client.create_payment(creation(f"leaving-{number}"))
            assert await estate.front.ask("GET", f"/stats?filter={drained}") != before
        finally:
            await estate.front.ask("POST", "/healthcheck/ok")
    await estate.front.ask("GET", "/ready", port=PROBES)


async def test_a_renewed_certificate_is_taken_up_without_a_restart(estate: Estate) -> None:
    """As a mounted Secret is renewed: the next handshake shows the new one, and connections that are open go on."""
    tls = estate.directory / "front" / "tls"
    context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
    context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
    context.set_alpn_protocols(["h2"])

    async def serial() -> str:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", estate.front.ports[CALLERS], ssl=context, server_hostname="obol-front"
        )
        shown = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        return str(shown)

    before = await serial()
    async with estate.calling() as channel:
        client = AioPaymentGatewayClient(channel, CALLER)
        await client.list_payments(paying.ListPaymentsRequest())
        estate.authority.mount(tls, "obol-front")

        async def renewed() -> bool:
            return await serial() != before

        await until(renewed, "the new certificate is shown")
        await client.list_payments(paying.ListPaymentsRequest())
