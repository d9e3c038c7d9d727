"""The Kubernetes manifests: what they name exists in each other, in our command line, settings and Envoys.

No API server and no schema is here: the fields' spelling is held by nothing but these tests' reading of them.
"""

from typing import Any

import pytest

from gateway.config_sections import DatabaseSection, MetricsSection
from gateway.rpc.readiness import PROCESS_SERVICE
from obol.v1 import payment_gateway_pb2
from tests.deploy.reading import DEPLOY, ENVOYS, documents, envoy, listeners, parsed, settings, upstreams, walk
from webhook_http.settings import SidecarLimits

(KUSTOMIZATION,) = documents(DEPLOY / "kustomization.yaml")
MANIFESTS: list[Any] = [each for file in KUSTOMIZATION["resources"] for each in documents(DEPLOY / file)]
POSTGRESQL_CONNECTIONS = 100
SECRETS = {
    "obol-gateway-config",
    "obol-webhooks-config",
    "obol-gateway-tls",
    "obol-front-tls",
    "obol-webhooks-tls",
    "obol-edge-tls",
    "obol-edge-public-tls",
}


def named(kind: str) -> dict[str, Any]:
    """The manifests of a kind, by name."""
    return {each["metadata"]["name"]: each for each in MANIFESTS if each["kind"] == kind}


DEPLOYMENTS = named("Deployment")
PODS = {name: each["spec"]["template"] for name, each in {**DEPLOYMENTS, **named("Job")}.items()}
PAIRS: list[tuple[str, Any]] = [
    (pod, container)
    for pod, template in PODS.items()
    for container in [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]
]
CONTAINERS = [pytest.param(pod, container, id=f"{pod}/{container['name']}") for pod, container in PAIRS]
OURS = [pytest.param(pod, container, id=pod) for pod, container in PAIRS if container["image"] == "obol"]


def environment(pod: str, container: Any) -> dict[str, str]:
    """A container's variables."""
    return {"KIND": pod, **{each["name"]: each["value"] for each in container["env"]}}


def envoy_of(pod: str) -> Any:
    """The configuration of a pod's Envoy."""
    spec = PODS[pod]["spec"]
    (container,) = [each for each in [*spec.get("initContainers", ()), *spec["containers"]] if "envoy" in each["image"]]
    return envoy(container["command"][2].removeprefix("/etc/obol/envoy/"))


def test_every_file_is_in_the_kustomization() -> None:
    """No manifest and no Envoy configuration is forgotten; both images are pinned there."""
    assert {each.name for each in (DEPLOY / "kubernetes").iterdir()} == {
        each.removeprefix("kubernetes/") for each in KUSTOMIZATION["resources"]
    }
    generated = {file for each in KUSTOMIZATION["configMapGenerator"] for file in each["files"]}
    assert generated == {str(each.relative_to(DEPLOY)) for each in ENVOYS.rglob("*.yaml")}
    assert {each["name"] for each in KUSTOMIZATION["images"]} == {"obol", "envoyproxy/envoy"}
    (compose,) = documents(DEPLOY / "compose.yaml")
    assert compose["x-envoy"]["image"] == f"envoyproxy/envoy:{KUSTOMIZATION['images'][1]['newTag']}"


@pytest.mark.parametrize(("pod", "container"), OURS)
def test_every_argument_and_variable_is_ours(pod: str, container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`obol` takes the arguments, the settings take every variable, and their file is a mounted Secret's key."""
    assert parsed(container["args"]) == {"g": "serve", "w": "webhooks", "m": "migrate"}[pod.removeprefix("obol-")[0]]
    told = environment(pod, container)
    settings(told, monkeypatch)
    (mounted,) = [each for each in container["volumeMounts"] if told["OBOL_CONFIG"].startswith(each["mountPath"])]
    (volume,) = [each for each in PODS[pod]["spec"]["volumes"] if each["name"] == mounted["name"]]
    assert volume["secret"]["secretName"] == ("obol-webhooks-config" if "webhooks" in pod else "obol-gateway-config")


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_a_container_has_what_it_mounts_and_rights_to_nothing(pod: str, container: Any) -> None:
    """Each volume is the pod's, each Envoy file a generated key; not root, read-only, no capability, bounded memory."""
    spec = PODS[pod]["spec"]
    volumes = {each["name"]: each for each in spec["volumes"]}
    for mount in container["volumeMounts"]:
        assert mount["name"] in volumes
        assert mount.get("readOnly") or "emptyDir" in volumes[mount["name"]]
    if "envoy" in container["image"]:
        _, option, path, *rest = container["command"]
        items = [item for each in volumes["envoy"]["projected"]["sources"] for item in each["configMap"]["items"]]
        projected = {item["path"] for item in items}
        # As many threads as it has a share of the machine for, and not as many as the machine has processors.
        assert (option, rest) == ("-c", ["--concurrency", "2"])
        assert path.removeprefix("/etc/obol/envoy/") in projected
        read = envoy(path.rpartition("/")[2])
        for each in walk(read):
            if isinstance(each, dict) and "path_config_source" in each:
                assert each["path_config_source"]["path"].removeprefix("/etc/obol/envoy/") in projected
        for port in container["ports"]:
            assert listeners(read)[port["containerPort"]] == "0.0.0.0"  # noqa: S104  a pod's
    rights = container["securityContext"]
    assert (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"]) == (False, True)
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"]


def test_secrets_are_referred_to_and_none_is_here() -> None:
    """No Secret and no value of one; those that are needed are the ones that docs/operations.md tells how to make."""
    assert not named("Secret")
    found = {each["secretName"] for manifest in MANIFESTS for each in walk(manifest) if _has(each, "secretName")}
    assert found == SECRETS
    told = (DEPLOY.parent / "docs" / "operations.md").read_text()
    assert [name for name in sorted(SECRETS) if f"`{name}`" not in told] == []


def _has(value: Any, key: str) -> bool:
    return isinstance(value, dict) and key in value


def test_probes_of_a_gateway_ask_health_that_there_is() -> None:
    """Through Envoy's port for it: life by the process alone, readiness by the service that balancers ask for."""
    (gateway,) = PODS["obol-gateway"]["spec"]["containers"]
    ports = listeners(envoy("gateway.yaml"))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert ports[gateway[probe]["grpc"]["port"]] == "0.0.0.0"  # noqa: S104  a pod's
    assert gateway["livenessProbe"]["grpc"]["service"] == gateway["startupProbe"]["grpc"]["service"] == PROCESS_SERVICE
    service = payment_gateway_pb2.DESCRIPTOR.services_by_name["PaymentGateway"].full_name
    assert gateway["readinessProbe"]["grpc"]["service"] == service
    (cluster,) = [each for each in envoy("front.yaml")["static_resources"]["clusters"] if each["name"] == "gateways"]
    assert cluster["health_checks"][0]["grpc_health_check"]["service_name"] == service


@pytest.mark.parametrize("pod", ["obol-front", "obol-edge", "obol-webhooks"])
def test_http_probes_ask_paths_that_there_are(pod: str) -> None:
    """Each path is one that the pod's Envoy answers at that port."""
    for container in PODS[pod]["spec"]["containers"]:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if asked := container.get(probe, {}).get("httpGet"):
                (listener,) = [
                    each
                    for each in envoy_of(pod)["static_resources"]["listeners"]
                    if each["address"]["socket_address"]["port_value"] == asked["port"]
                ]
                exact = {each.get("exact") or each.get("path") for each in walk(listener) if isinstance(each, dict)}
                assert asked["path"] in exact


def test_a_pod_is_given_the_time_that_its_leaving_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drain and preStop together fit into the grace; a gateway's announcement is longer than balancers need."""
    (gateway,) = PODS["obol-gateway"]["spec"]["containers"]
    drain = settings(environment("obol-gateway", gateway), monkeypatch).drain
    assert PODS["obol-gateway"]["spec"]["terminationGracePeriodSeconds"] > drain.announce_s + 2 * drain.grace_s
    readiness = gateway["readinessProbe"]
    assert drain.announce_s > readiness["failureThreshold"] * (readiness["periodSeconds"] + readiness["timeoutSeconds"])
    (webhooks,) = PODS["obol-webhooks"]["spec"]["containers"]
    slept_s = int(webhooks["lifecycle"]["preStop"]["exec"]["command"][1])
    assert PODS["obol-webhooks"]["spec"]["terminationGracePeriodSeconds"] > slept_s + SidecarLimits().drain_s_max
    for pod in ("obol-front", "obol-edge"):
        (container,) = PODS[pod]["spec"]["containers"]
        slept_s = int(container["lifecycle"]["preStop"]["exec"]["command"][2].split("sleep ")[1])
        assert PODS[pod]["spec"]["terminationGracePeriodSeconds"] > slept_s
    for pod in ("obol-gateway", "obol-webhooks"):
        (sidecar,) = PODS[pod]["spec"]["initContainers"]
        assert sidecar["restartPolicy"] == "Always"


def test_selectors_find_pods_and_services_find_ports() -> None:
    """Deployments, Services, budgets and the autoscaler name labels that pods have, and ports that are open."""
    labels = {name: template["metadata"]["labels"] for name, template in PODS.items()}
    for name, deployment in DEPLOYMENTS.items():
        assert deployment["spec"]["selector"]["matchLabels"] == labels[name]
        assert deployment["spec"]["replicas"] >= 2
    for name, service in named("Service").items():
        assert service["spec"]["selector"] == labels[name]
        containers = [
            each for pod in [PODS[name]["spec"]] for each in [*pod.get("initContainers", ()), *pod["containers"]]
        ]
        open_ports = {port["containerPort"] for each in containers for port in each.get("ports", ())}
        assert {port.get("targetPort", port["port"]) for port in service["spec"]["ports"]} <= open_ports
    assert set(named("PodDisruptionBudget")) == set(DEPLOYMENTS)
    for name, budget in named("PodDisruptionBudget").items():
        assert budget["spec"]["selector"]["matchLabels"] == labels[name]
        assert 1 <= budget["spec"]["minAvailable"] < DEPLOYMENTS[name]["spec"]["replicas"]
    for scaler in named("HorizontalPodAutoscaler").values():
        assert scaler["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
        assert scaler["spec"]["minReplicas"] >= 2


def test_as_many_gateways_as_a_database_has_connections_for() -> None:
    """All that the autoscaler may start, and one that comes in a rollout, fit into PostgreSQL's own limit."""
    scaler = named("HorizontalPodAutoscaler")["obol-gateway"]["spec"]
    surge = DEPLOYMENTS["obol-gateway"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    pool = DatabaseSection().pool_max
    # The hot pool, the one for everything else, and the one that hears notifications (store/open.py).
    connections = pool + (pool + 1) // 2 + 1
    assert (scaler["maxReplicas"] + surge) * connections <= POSTGRESQL_CONNECTIONS - 10


def test_names_that_envoys_balance_over_are_headless_services() -> None:
    """Each name of an upstream leads to every pod, at a port that these open."""
    services = named("Service")
    for file in ENVOYS.glob("*.yaml"):
        for places in upstreams(envoy(file.name)).values():
            for name, port in places:
                if name != "127.0.0.1":
                    assert services[name]["spec"]["clusterIP"] == "None"
                    assert port in {each["port"] for each in services[name]["spec"]["ports"]}
    assert {each["port"] for each in services["obol-gateway"]["spec"]["ports"]} >= {MetricsSection().port}


def test_nobody_talks_but_where_it_is_said() -> None:
    """All is denied first; a gateway is reached by front, sidecars and labelled callers, at its door alone."""
    policies = named("NetworkPolicy")
    assert policies["obol-nobody-talks"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert set(PODS) <= set(policies)
    for name in PODS:
        spec = policies[name]["spec"]
        assert spec["podSelector"]["matchLabels"] == PODS[name]["metadata"]["labels"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
    ingress = policies["obol-gateway"]["spec"]["ingress"]
    assert {port["port"] for rule in ingress for port in rule["ports"]} == {8443, MetricsSection().port}
    assert all(rule["from"] for rule in ingress)
    unbounded = [name for name in PODS for rule in policies[name]["spec"].get("ingress", ()) if "from" not in rule]
    assert unbounded == ["obol-edge"]
    assert "ingress" not in policies["obol-migrate"]["spec"]
