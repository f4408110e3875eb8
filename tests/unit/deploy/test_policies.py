"""What every pod must be like: restricted, probed, bounded, labelled, drained."""

import re
from typing import Any

import pytest

from tests.support.manifests.cluster import (
    NAME,
    OVERLAYS,
    Workload,
    object_of,
    of_kind,
    overlay,
    workloads,
)

NO_TAG_FOR_PRODUCTION = re.compile(r":(latest|edge|main|master|stable)$")
# Volumes that pod security *restricted* lets a pod have.
VOLUMES = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}

every_overlay = pytest.mark.parametrize("name", OVERLAYS)


def containers(name: str) -> list[tuple[Workload, dict[str, Any]]]:
    return [(workload, one) for workload in workloads(name) for one in workload.containers]


def probed(name: str) -> list[tuple[Workload, dict[str, Any]]]:
    return [(workload, one) for workload, one in containers(name) if workload.doc["kind"] != "Job"]


@every_overlay
def test_the_namespace_enforces_what_the_pods_keep(name: str) -> None:
    labels = object_of(name, "Namespace", "octarm")["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@every_overlay
def test_pods_are_restricted(name: str) -> None:
    for workload in workloads(name):
        pod, context = workload.pod, workload.pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert {key for one in pod["volumes"] for key in one if key != "name"} <= VOLUMES
    for _, container in containers(name):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not {"privileged", "runAsUser", "procMount"} & context.keys()
        assert not any("hostPort" in port for port in container.get("ports", ()))


@every_overlay
def test_no_pod_has_a_token_or_variables_of_services(name: str) -> None:
    for workload in workloads(name):
        assert workload.pod["automountServiceAccountToken"] is False
        assert workload.pod["enableServiceLinks"] is False
        account = object_of(name, "ServiceAccount", workload.pod["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False


@every_overlay
def test_resources_are_asked_for_and_memory_is_bounded(name: str) -> None:
    for workload, container in containers(name):
        resources = container["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}, workload.name
        # A limit of processor time only makes a process slow while the node has time.
        assert resources["limits"].keys() == {"memory"}, workload.name
        asked, limit = resources["requests"]["memory"], resources["limits"]["memory"]
        assert mebibytes(asked) <= mebibytes(limit), workload.name


@every_overlay
def test_what_a_pod_may_write_is_bounded(name: str) -> None:
    for workload in workloads(name):
        for volume in workload.pod["volumes"]:
            if "emptyDir" in volume:
                assert mebibytes(volume["emptyDir"]["sizeLimit"]) <= 256, workload.name


@every_overlay
def test_images_have_exact_tags(name: str) -> None:
    for workload, container in containers(name):
        image = container["image"]
        assert re.search(r":\d+(\.\d+)+", image), f"{workload.name}: {image}"
        assert not NO_TAG_FOR_PRODUCTION.search(image)


@every_overlay
def test_every_process_that_stays_is_probed(name: str) -> None:
    for workload, container in probed(name):
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container[kind]
            (how,) = probe.keys() & {"httpGet", "tcpSocket", "exec"}
            if how != "exec":
                assert probe[how]["port"] in workload.ports, f"{workload.name}: {kind}"
            assert probe["timeoutSeconds"] <= probe["periodSeconds"] + 1


@every_overlay
def test_our_probes_ask_for_progress_and_for_dependencies(name: str) -> None:
    for workload, container in probed(name):
        if not workload.is_ours:
            continue
        paths = {
            kind: container[kind]["httpGet"]["path"]
            for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert paths == {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        }


@every_overlay
def test_everything_is_labelled(name: str) -> None:
    for doc in overlay(name):
        if doc["kind"] != "ConfigMap":
            assert doc["metadata"]["labels"]["app.kubernetes.io/part-of"] == "octarm"
    for workload in workloads(name):
        assert workload.labels["app.kubernetes.io/part-of"] == "octarm"
        assert workload.doc["metadata"]["labels"][NAME] == workload.name
        assert workload.doc["metadata"]["name"] == f"octarm-{workload.name}"


@every_overlay
def test_a_selector_selects_one_workload(name: str) -> None:
    for workload in workloads(name):
        if workload.doc["kind"] != "Job":
            assert selected(name, workload.doc["spec"]["selector"]["matchLabels"]) == [
                workload.name
            ]
    for service in of_kind(name, "Service"):
        assert len(selected(name, service["spec"]["selector"])) == 1
    for budget in of_kind(name, "PodDisruptionBudget"):
        assert len(selected(name, budget["spec"]["selector"]["matchLabels"])) == 1


@every_overlay
def test_pods_spread_among_their_own_kind(name: str) -> None:
    for workload in workloads(name):
        for spread in workload.pod.get("topologySpreadConstraints", ()):
            labels = spread["labelSelector"]["matchLabels"]
            assert selected(name, labels) == [workload.name]


@every_overlay
def test_ports_of_services_are_ports_of_their_pods(name: str) -> None:
    ports = {workload.name: workload.ports for workload in workloads(name)}
    for service in of_kind(name, "Service"):
        (target,) = selected(name, service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            assert ports[target][port["targetPort"]] == port["port"]


def test_production_survives_the_loss_of_a_node() -> None:
    budgets = {
        one
        for budget in of_kind("prod", "PodDisruptionBudget")
        for one in selected("prod", budget["spec"]["selector"]["matchLabels"])
    }
    for workload in workloads("prod"):
        if workload.doc["kind"] == "Job":
            continue
        assert workload.pod["priorityClassName"].startswith("octarm-")
        # One server of each: what they lose is said in deploy/k8s/README.md.
        if workload.name not in ("postgres", "redis"):
            assert workload.doc["spec"].get("replicas", 2) >= 2, workload.name
            assert workload.name in budgets


def test_a_disruption_budget_never_blocks_a_node_for_ever() -> None:
    for name in OVERLAYS:
        for budget in of_kind(name, "PodDisruptionBudget"):
            assert budget["spec"]["maxUnavailable"] == 1


def selected(name: str, labels: dict[str, str]) -> list[str]:
    return [one.name for one in workloads(name) if labels.items() <= one.labels.items()]


def mebibytes(quantity: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit == "Gi" else 1)


def test_every_arm_may_do_the_same_on_the_bus_as_itself() -> None:
    (config,) = [doc for doc in of_kind("prod", "ConfigMap") if "accounts.conf" in doc["data"]]
    text = config["data"]["accounts.conf"]
    blocks = dict(re.findall(r"user: (\w+), password: \$\w+\n(.*?\n      \})", text, re.DOTALL))

    assert blocks.keys() == {"llm", "retriever"}
    assert blocks["llm"].replace("llm", "retriever") == blocks["retriever"]
