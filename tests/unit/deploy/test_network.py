"""Who can reach whom is exactly what the processes' settings say that they use."""

import itertools
import json
import re
from collections.abc import Iterator

import pytest

from tests.support.manifests.cluster import SECRETS, Workload, files, of_kind, variables, workloads
from tests.support.manifests.network import Peer, reaches

# URLs of servers in what a process is told: `tls://user:password@host:port`, `otlp:http://…`.
URL = re.compile(r"(?:otlp:)?(\w+)://(?:[^@/,]*@)?([\w.-]+)(?::(\d+))?")
DEFAULT_PORTS = {"https": 443}
Edge = tuple[str, str, int]

# In prod-managed the URLs are those of servers that are not here.
overlays = pytest.mark.parametrize("name", ["dev", "prod"])

PROMETHEUS = Peer("prometheus", "observability", {"app.kubernetes.io/name": "prometheus"})
TRACES = Peer("traces", "observability", {"app.kubernetes.io/name": "traces"})
INGRESS = Peer("ingress", "ingress-nginx")
KEDA = Peer("keda", "keda")
STRANGER = Peer("stranger", "default")
INTERNET = Peer("internet", address="203.0.113.7")
INTERNET_6 = Peer("internet", address="2001:db8::7")
METADATA = Peer("metadata", address="169.254.169.254")
NODE = Peer("node", address="10.1.2.3")
DNS = Peer("dns", "kube-system", {"k8s-app": "kube-dns"})


def pods(name: str) -> list[Peer]:
    return [Peer(one.name, labels=one.labels) for one in workloads(name)]


def used(name: str, workload: Workload) -> Iterator[Edge]:
    """Derive from a process's settings to which ports of which hosts it connects."""
    values = [value for one in workload.containers for _, value in variables(name, one)]
    if any(one["mountPath"] == SECRETS for one in workload.containers[0]["volumeMounts"]):
        found = files(name, workload, SECRETS)
        wanted = {"octarm_nats_url", "octarm_postgres_url", "octarm_redis_url"}
        if workload.name.startswith("migrate-"):
            # They read the settings of their service, but open the database only.
            wanted = {"octarm_postgres_url"}
            values = []
        values += [value for key, value in found.items() if key in wanted]
    for value in values:
        for scheme, host, port in URL.findall(value):
            if host.startswith("octarm-"):
                yield workload.name, target_of(name, host), int(port)
            else:
                yield workload.name, "internet", int(port or DEFAULT_PORTS[scheme])


def target_of(name: str, host: str) -> str:
    """Give the workload behind `service` or `pod.service`."""
    service = host.rpartition(".")[2]
    (selector,) = [
        one["spec"]["selector"]
        for one in of_kind(name, "Service")
        if one["metadata"]["name"] == service
    ]
    (found,) = [one.name for one in workloads(name) if selector.items() <= one.labels.items()]
    return found


def allowed(name: str, sources: list[Peer], targets: list[tuple[Peer, int]]) -> set[Edge]:
    policies = of_kind(name, "NetworkPolicy")
    return {
        (source.name, target.name, port)
        for source, (target, port) in itertools.product(sources, targets)
        if reaches(policies, source, target, ("TCP", port))
    }


@overlays
def test_pods_reach_what_they_use_and_nothing_else(name: str) -> None:
    targets = [
        (Peer(one.name, labels=one.labels), port)
        for one in workloads(name)
        for port in one.ports.values()
    ]
    needed = {edge for one in workloads(name) for edge in used(name, one)}
    within = {edge for edge in needed if edge[1] != "internet"}

    # The servers of NATS among themselves are told so by their own file, not by settings.
    assert allowed(name, pods(name), targets) == within | {("nats", "nats", 6222)}


@overlays
def test_the_edges_are_those_of_the_drawing(name: str) -> None:
    """Guard the derivation itself: what it finds is what deploy/k8s/README.md says."""
    needed = {edge for one in workloads(name) for edge in used(name, one)}
    services = [
        "gateway",
        "orchestrator",
        "scheduler",
        "arm-registry",
        "memory",
        "llm",
        "retriever",
    ]
    outside = {("llm", "internet", 443)} if name == "prod" else set()

    assert needed == outside | {
        *((service, "nats", 4222) for service in [*services, "provision-bus"]),
        *((service, "collector", 4318) for service in services),
        *((one, "postgres", 5432) for one in ["orchestrator", "memory"]),
        *((one, "postgres", 5432) for one in ["migrate-ledger", "migrate-memory"]),
        ("memory", "redis", 6379),
    }


@overlays
def test_only_who_calls_a_provider_reaches_the_world_and_never_the_cluster(name: str) -> None:
    needed = {edge for one in workloads(name) for edge in used(name, one)}
    world = [(INTERNET, 443), (INTERNET_6, 443), (INTERNET, 80)]

    assert allowed(name, pods(name), world) == {edge for edge in needed if edge[1] == "internet"}
    for address in (METADATA, NODE):
        assert allowed(name, pods(name), [(address, 80), (address, 443), (address, 6443)]) == set()


@overlays
def test_only_ingress_scaler_and_prometheus_come_in(name: str) -> None:
    targets = [
        (Peer(one.name, labels=one.labels), port)
        for one in workloads(name)
        for port in one.ports.values()
    ]
    outside = [PROMETHEUS, INGRESS, KEDA, STRANGER, TRACES, INTERNET]
    ours = [one.name for one in workloads(name) if one.is_ours and one.ports]

    assert allowed(name, outside, targets) == {
        *(("prometheus", one, 8080) for one in ours),
        ("ingress", "gateway", 8080),
        ("keda", "gateway", 8080),
    }


@overlays
def test_names_are_looked_up_by_everyone(name: str) -> None:
    policies = of_kind(name, "NetworkPolicy")

    for pod in pods(name):
        assert reaches(policies, pod, DNS, ("UDP", 53))
        assert reaches(policies, pod, DNS, ("TCP", 53))
        assert not reaches(policies, pod, DNS, ("TCP", 9153))


@overlays
def test_spans_leave_by_the_collector_alone(name: str) -> None:
    assert allowed(name, pods(name), [(TRACES, 4317)]) == {("collector", "traces", 4317)}


@overlays
def test_a_pod_without_labels_reaches_nothing_and_is_reached_by_nobody(name: str) -> None:
    unknown = Peer("unknown")
    targets = [
        (Peer(one.name, labels=one.labels), port)
        for one in workloads(name)
        for port in one.ports.values()
    ]

    assert allowed(name, [unknown], [*targets, (INTERNET, 443), (STRANGER, 80)]) == set()
    assert allowed(name, [*pods(name), STRANGER, INTERNET], [(unknown, 8080)]) == set()


def test_managed_servers_are_reached_by_whom_the_servers_here_were() -> None:
    postgres, redis = Peer("postgres", address="10.20.0.9"), Peer("redis", address="10.20.1.9")

    assert allowed("prod-managed", pods("prod-managed"), [(postgres, 5432), (redis, 6379)]) == {
        edge for edge in allowed_in_prod() if edge[1] in ("postgres", "redis")
    }


def test_a_managed_bus_is_reached_by_whom_the_bus_here_was() -> None:
    name, nats = "prod-managed-nats", Peer("nats", address="10.20.2.9")

    assert allowed(name, pods(name), [(nats, 4222)]) == {
        edge for edge in allowed_in_prod() if edge[1] == "nats" and edge[0] != "nats"
    }
    assert not [one for one in workloads(name) if one.name in ("nats", "postgres", "redis")]


def allowed_in_prod() -> set[Edge]:
    here = [
        (Peer(one.name, labels=one.labels), port)
        for one in workloads("prod")
        for port in one.ports.values()
    ]
    return allowed("prod", pods("prod"), here)


def test_without_a_policy_everything_is_reached() -> None:
    assert reaches([], STRANGER, Peer("pod"), ("TCP", 1))


def test_edges_are_read_from_every_form_of_url() -> None:
    said = json.dumps(["otlp:http://octarm-a:4318/v1", "tls://u:p@octarm-b-0.octarm-b:1,tls://x:2"])

    assert URL.findall(said) == [
        ("http", "octarm-a", "4318"),
        ("tls", "octarm-b-0.octarm-b", "1"),
        ("tls", "x", "2"),
    ]
