"""The compose file: everything that it names exists in our command line, our settings, our files."""

from typing import Any

import pytest

from gateway.rpc.address import loopback
from tests.deploy.reading import DEPLOY, EXAMPLES, ROOT, documents, envoy, listeners, parsed, seconds, settings

(COMPOSE,) = documents(DEPLOY / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("obol:")}
ENVOYS = {name: service for name, service in SERVICES.items() if "envoyproxy/envoy" in service["image"]}


def environment(name: str) -> dict[str, str]:
    """A service's environment, as its process sees it."""
    return {**SERVICES[name]["environment"], "KIND": name}


def test_it_is_the_estate_that_tests_drive() -> None:
    """Two gateways, two sidecars, an Envoy beside each, one in front of either, a migration and a PostgreSQL."""
    assert set(OURS) == {"migrate", "gateway-0", "gateway-1", "webhooks-0", "webhooks-1"}
    beside = {f"{name}-envoy" for name in OURS if name != "migrate"}
    assert set(ENVOYS) == {*beside, "front", "edge"}
    assert set(SERVICES) == {*OURS, *ENVOYS, "postgres"}


@pytest.mark.parametrize("name", OURS)
def test_every_command_and_variable_is_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`obol` takes the command, the settings take every variable, and the address may be listened on."""
    command = parsed(SERVICES[name]["command"])
    assert command == {"g": "serve", "w": "webhooks", "m": "migrate"}[name[0]]
    told = settings(environment(name), monkeypatch)
    assert not told.is_sqlite or command == "webhooks"
    loopback(told.grpc.host, told.grpc.port, "grpc.host")
    assert OURS[name]["environment"]["OBOL_CONFIG"].removeprefix("/run/secrets/") in OURS[name]["secrets"]


@pytest.mark.parametrize("name", ["gateway-0", "gateway-1"])
def test_a_gateway_is_given_the_time_that_its_drain_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Announced, then calls, then provider calls: only after all of them may it be killed."""
    drain = settings(environment(name), monkeypatch).drain
    assert seconds(SERVICES[name]["stop_grace_period"]) > drain.announce_s + 2 * drain.grace_s
    # Two failed checks, half a second and a second apart, each of at most a second, and a reader who has just looked.
    assert drain.announce_s > 4


@pytest.mark.parametrize("name", ENVOYS)
def test_every_envoy_reads_what_is_there(name: str) -> None:
    """Its configuration is mounted, its ports are the configuration's, its certificates come from the secrets."""
    program, option, path, *rest = SERVICES[name]["command"]
    assert (program, option, rest) == ("envoy", "-c", ["--concurrency", "2"])
    mounted = dict(each.split(":")[:2][::-1] for each in SERVICES[name]["volumes"])
    file = DEPLOY / mounted["/etc/obol/envoy"] / path.removeprefix("/etc/obol/envoy/")
    assert file.is_file()
    assert mounted["/etc/obol/tls"].startswith("./secrets/")
    assert ("/etc/obol/public-tls" in mounted) == ("secrets/public.yaml" in file.read_text())
    for published in SERVICES[name].get("ports", ()):
        assert listeners(envoy(file.name))[int(published.split(":")[1])] == "0.0.0.0"  # noqa: S104  a container's
    assert all(each.endswith(":ro") for each in SERVICES[name]["volumes"])


def test_only_the_front_and_the_edge_are_published() -> None:
    """No gateway, sidecar or database has a port on the host."""
    assert {name for name, service in SERVICES.items() if service.get("ports")} == {"front", "edge"}


def test_names_that_envoys_balance_over_are_aliases() -> None:
    """Where obol-gateway and obol-webhooks lead is every Envoy beside one, in a network that the asking one is in."""
    for kind, name in (("gateway", "obol-gateway"), ("webhooks", "obol-webhooks")):
        for number in range(2):
            networks = SERVICES[f"{kind}-{number}-envoy"]["networks"]
            assert networks["inside"]["aliases"] == [name]
            assert SERVICES[f"{kind}-{number}"]["network_mode"] == f"service:{kind}-{number}-envoy"
    assert "inside" in SERVICES["front"]["networks"]
    assert "inside" in SERVICES["edge"]["networks"]
    assert COMPOSE["networks"]["books"]["internal"] is COMPOSE["networks"]["inside"]["internal"] is True
    assert "books" not in {*SERVICES["front"]["networks"], *SERVICES["edge"]["networks"]}


def test_everything_named_is_declared() -> None:
    """Secrets, networks, volumes and services that are referred to exist; secrets are files outside the repository."""
    for service in SERVICES.values():
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        assert set(service.get("networks", ())) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", ())) <= set(SERVICES)
    assert all(each["file"].startswith("./secrets/") for each in COMPOSE["secrets"].values())
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert not any("password" in str(value).lower() for name in OURS for value in environment(name).values())


@pytest.mark.parametrize("name", [*OURS, *ENVOYS])
def test_nothing_of_ours_may_write_or_rise(name: str) -> None:
    """Read-only, without capabilities, without new privileges."""
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_installs_what_was_tested() -> None:
    """From the hashed lock alone, our own code without a look at an index, as a user who is not root."""
    text = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.lock" in text
    assert "--no-deps --no-build-isolation ./proto ." in text
    assert "USER 10001:10001" in text
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert all((ROOT / source).exists() for sources in copied for source in sources)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench", "kit"}
    named = {source for sources in copied for source in sources}
    assert named == packages | {"proto", "requirements.lock", "pyproject.toml", "README.md"}


def test_examples_hold_no_secret() -> None:
    """What must be replaced is in capitals."""
    for path in EXAMPLES.values():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" = ")
            if name in ("api_key", "webhook_secrets"):
                assert value.strip('[]"') in ("API_KEY", "not-here", "SIGNING_SECRET")
