"""The Envoy configurations, as they are written: what a running test cannot wait for, or could miss."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor

from gateway.app.settings import EngineSettings
from gateway.config_sections import GrpcSection, WebhooksSection
from gateway.rpc.interceptors import CallLimits
from gateway.rpc.server import WireLimits
from obol.client.channel import REPEATED_BY_THE_CHANNEL
from obol.v1 import billing_observation_pb2, payment_gateway_pb2, provider_callbacks_pb2
from tests.deploy.reading import ENVOYS, envoy, listeners, routes, seconds, upstreams, walk
from tests.e2e.replicas.certificates import Authority
from tests.e2e.replicas.envoys import NAMES, command, place
from webhook_http.settings import SidecarLimits

FILES = [f"{name}.yaml" for name in NAMES]
SERVICES = [
    service
    for module in (payment_gateway_pb2, billing_observation_pb2, provider_callbacks_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
WATCH = "/obol.v1.BillingObservation/WatchObservations"


def route_of(file: str, path: str, listener: int = 0) -> Any:
    """The route that an Envoy takes for a path; None for none."""
    table = routes(envoy(file)["static_resources"]["listeners"][listener])
    for each in table:
        match = each["match"]
        if "path" in match and match["path"] == path:
            return each["route"]
        if "prefix" in match and path.startswith(match["prefix"]):
            return each["route"]
        if "safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path):
            return each["route"]
    return None


@pytest.mark.parametrize("name", NAMES)
def test_envoy_takes_it_as_it_is(name: str, tmp_path: Path) -> None:
    """Every field is one that the wheel's Envoy knows, and none is on its way out."""
    authority = Authority("test authority")
    authority.mount(tmp_path / "tls", f"obol-{name}")
    authority.mount(tmp_path / "public-tls", "localhost")
    ports = {port: port for port in (8443, 8081, 9901, 50_051, 8_090)}
    path = place(name, tmp_path, ports=ports, upstreams={})
    done = subprocess.run(command(path, "--mode", "validate"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


@pytest.mark.parametrize("file", FILES)
def test_only_reads_and_callbacks_are_ever_repeated(file: str) -> None:
    """Whatever carries an idempotency key, or is no read, meets no retry policy; no virtual host has one for all."""
    for each in walk(envoy(file)):
        if isinstance(each, dict) and "virtual_hosts" in each:
            assert not [host for host in each["virtual_hosts"] if "retry_policy" in host]
    for number in range(len(envoy(file)["static_resources"]["listeners"])):
        for path, method in METHODS.items():
            route = route_of(file, path, number)
            if route is not None and "retry_policy" in route:
                assert is_read(method), path
    repeated = [route for route in routes(envoy(file)) if "retry_policy" in route.get("route", {})]
    assert len(repeated) == {"front.yaml": 1, "edge.yaml": 1}.get(file, 0)


def is_read(method: MethodDescriptor) -> bool:
    """A channel of ours may repeat it, its name says so, and it has no key."""
    may = method.name in REPEATED_BY_THE_CHANNEL[method.containing_service.full_name]
    return may and method.name.startswith(("Get", "List")) and "idempotency_key" not in method.input_type.fields_by_name


def test_every_read_may_be_repeated_by_the_front() -> None:
    """No read is forgotten, so that a gateway that dies costs no reader an error."""
    reads = [path for path, method in METHODS.items() if "ProviderCallbacks" not in path and is_read(method)]
    assert len(reads) >= 8
    assert [path for path in reads if "retry_policy" not in route_of("front.yaml", path)] == []


@pytest.mark.parametrize("file", FILES)
def test_no_header_of_a_callers_asks_envoy_for_anything(file: str) -> None:
    """On every way in from outside x-envoy- headers are taken off before a route is looked at."""
    for listener in envoy(file)["static_resources"]["listeners"]:
        filters = [each for each in walk(listener) if isinstance(each, dict) and "http_filters" in each]
        for manager in filters:
            names = [each["name"] for each in manager["http_filters"]]
            assert names[0] == ("no-wishes-to-envoy" if listener["name"] != "probes" else names[0])
            assert names[-1] == "router"


def test_envoy_waits_longer_than_what_it_asks() -> None:
    """A deadline of Envoy's would turn an answer into silence: the gateway's and the sidecar's own end first."""
    engine, sidecar = EngineSettings(), SidecarLimits()
    gateway_s = engine.send_window_s + engine.provider_timeout_s + engine.settle_retry_s
    gateway_s = max(gateway_s, engine.replay_wait_s)
    for path, method in METHODS.items():
        if path == WATCH or "ProviderCallbacks" in path:
            continue
        door, front = route_of("gateway.yaml", path), route_of("front.yaml", path)
        if not is_read(method):
            assert gateway_s < seconds(door["timeout"]) < seconds(front["timeout"]), path
            assert seconds(front["idle_timeout"]) >= seconds(front["timeout"])
    for file in ("gateway.yaml", "front.yaml"):
        assert (route_of(file, WATCH)["timeout"], route_of(file, WATCH)["idle_timeout"]) == ("0s", "0s")
    sidecar_s = sidecar.head_s_max + sidecar.body_s_max + sidecar.verify_s_max + sidecar.deliver_s_max
    beside = seconds(route_of("webhooks.yaml", "/webhooks/sandbox/acct_main")["timeout"])
    assert sidecar_s < beside < seconds(route_of("edge.yaml", "/webhooks/sandbox/acct_main")["timeout"])
    delivered = route_of("webhooks.yaml", "/obol.v1.ProviderCallbacks/DeliverCallback", 1)
    assert seconds(delivered["timeout"]) > sidecar.deliver_s_max


def test_streams_of_calls_are_bounded_by_the_gateway_and_not_before() -> None:
    """Envoy admits more than the gateway does, so that a refusal says why; and a callback's size is the sidecar's."""
    thresholds = envoy("gateway.yaml")["static_resources"]["clusters"][0]["circuit_breakers"]["thresholds"][0]
    limits = CallLimits()
    assert thresholds["max_requests"] > limits.calls_max + limits.streams_max
    assert f"max_request_bytes: {SidecarLimits().body_bytes_max}\n" in (ENVOYS / "edge.yaml").read_text()


@pytest.mark.parametrize("file", FILES)
def test_pings_are_as_rare_as_the_gateway_permits(file: str) -> None:
    """A gateway ends a connection that pings more often than it allows."""
    asked = [each["connection_keepalive"] for each in walk(envoy(file)) if _has(each, "connection_keepalive")]
    assert asked or file == "edge.yaml"
    assert all(seconds(each["interval"]) > WireLimits().ping_s_min for each in asked)


def _has(value: Any, key: str) -> bool:
    return isinstance(value, dict) and key in value


@pytest.mark.parametrize("file", FILES)
def test_administration_is_on_loopback_and_doors_want_certificates(file: str) -> None:
    """Nobody administers from outside; every public port but health and the edge's asks for a certificate."""
    read = envoy(file)
    assert listeners(read)[9901] == "127.0.0.1"
    for listener in read["static_resources"]["listeners"]:
        address = listener["address"]["socket_address"]["address"]
        tls = [each for each in walk(listener) if _has(each, "common_tls_context")]
        if listener["name"] in ("callers", "callbacks"):
            assert [each["require_client_certificate"] for each in tls] == [True]
        elif listener["name"] == "providers":
            assert len(tls) == 1
        else:
            assert address == "127.0.0.1" or listener["name"] == "probes"
    for cluster in read["static_resources"]["clusters"]:
        elsewhere = [place for place, _ in upstreams(read)[cluster["name"]] if place != "127.0.0.1"]
        assert not elsewhere or "transport_socket" in cluster


def test_each_envoy_finds_what_is_beside_it() -> None:
    """The ports that it calls on loopback are those at which gateway and sidecar listen unless told otherwise."""
    assert upstreams(envoy("gateway.yaml"))["gateway"] == [("127.0.0.1", GrpcSection().port)]
    assert upstreams(envoy("webhooks.yaml"))["sidecar"] == [("127.0.0.1", WebhooksSection().port)]
    assert listeners(envoy("webhooks.yaml"))[GrpcSection().port] == GrpcSection().host == "127.0.0.1"


@pytest.mark.parametrize("file", ["front.yaml", "webhooks.yaml"])
def test_who_balances_asks_the_gateway_and_ejects_for_broken_connections_alone(file: str) -> None:
    """Health by the readiness service's name; an answer, whatever it says, ejects nobody; none that is not well."""
    (cluster,) = [each for each in envoy(file)["static_resources"]["clusters"] if each["name"] == "gateways"]
    (check,) = cluster["health_checks"]
    assert check["grpc_health_check"]["service_name"] in {service.full_name for service in SERVICES}
    assert check["no_traffic_interval"] == "1s"
    assert cluster["common_lb_config"]["healthy_panic_threshold"]["value"] == 0
    assert "close_connections_on_host_health_failure" not in cluster
    outliers = cluster["outlier_detection"]
    assert outliers["split_external_local_origin_errors"] is True
    enforced = {name for name, value in outliers.items() if name.startswith("enforcing") and value}
    assert enforced == {"enforcing_consecutive_local_origin_failure"}
    assert cluster["lb_policy"] == "ROUND_ROBIN"


@pytest.mark.parametrize("file", FILES)
def test_access_logs_name_what_they_hold(file: str) -> None:
    """Fields one by one, and of the request's headers only the correlation id, the method and the path."""
    formats = [each["json_format"] for each in walk(envoy(file)) if _has(each, "json_format")]
    assert formats
    for each in formats:
        assert set(re.findall(r"%(?:REQ|RESP|TRAILER)\(([^)]*)\)%", " ".join(each.values()))) == {
            ":METHOD",
            "OBOL-CORRELATION-ID",
        }
        assert "DYNAMIC_METADATA" not in " ".join(each.values())
