"""How long a pod may take to end, beside how long its process does."""

import pytest

from octarm.common.bus.topology import STREAMS
from octarm.gateway.settings import Settings as GatewaySettings
from octarm.models.contracts import TaskContract
from octarm.sdk.instance import LAST_WORDS_S
from octarm.sdk.settings import ArmSettings
from tests.support.manifests.cluster import OVERLAYS, Workload, object_of, variables, workloads
from tests.support.manifests.processes import READ_BY

# What the embedded stack gives a service to drain in; each is well below.
SERVICE_DRAIN_S = 15

every_overlay = pytest.mark.parametrize("name", OVERLAYS)
with_a_bus = pytest.mark.parametrize(
    "name",
    [name for name in OVERLAYS if any(one.name == "nats" for one in workloads(name))],
)


def pre_stop_s(workload: Workload) -> int:
    (container,) = workload.containers
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
    return int(sleep.get("seconds", 0))


def drain_s(name: str, workload: Workload) -> float:
    (container,) = workload.containers
    said = dict(variables(name, container)).get("OCTARM_DRAIN_S")
    if workload.name == "gateway":
        return float(said or GatewaySettings.model_fields["drain_s"].default)
    if ArmSettings in READ_BY[workload.name]:
        return float(said or ArmSettings.model_fields["drain_s"].default) + LAST_WORDS_S
    return SERVICE_DRAIN_S


@every_overlay
def test_a_pod_is_not_killed_while_its_process_drains(name: str) -> None:
    for workload in workloads(name):
        if workload.is_ours and workload.doc["kind"] == "Deployment":
            given = workload.pod["terminationGracePeriodSeconds"]
            assert given >= pre_stop_s(workload) + drain_s(name, workload) + 5, workload.name


def test_an_arm_may_finish_the_longest_attempt() -> None:
    (arm,) = [one for one in workloads("prod") if one.name == "llm"]
    longest = max(
        bound.le
        for bound in TaskContract.model_fields["timeout_seconds"].metadata
        if hasattr(bound, "le")
    )

    assert drain_s("prod", arm) > longest


@every_overlay
def test_load_balancers_learn_of_the_end_before_the_gateway_ends(name: str) -> None:
    (gateway,) = [one for one in workloads(name) if one.name == "gateway"]

    assert pre_stop_s(gateway) >= 5


@every_overlay
def test_a_rollout_never_takes_a_service_away(name: str) -> None:
    for workload in workloads(name):
        if workload.is_ours and workload.doc["kind"] == "Deployment":
            assert workload.doc["spec"]["strategy"]["rollingUpdate"] == {
                "maxSurge": 1,
                "maxUnavailable": 0,
            }


@with_a_bus
def test_streams_fit_on_the_disk_of_a_server(name: str) -> None:
    (nats,) = [one for one in workloads(name) if one.name == "nats"]
    (claim,) = nats.doc["spec"]["volumeClaimTemplates"]
    (config,) = [
        source["configMap"]["name"]
        for volume in nats.pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        if "configMap" in source
    ]
    text = object_of(name, "ConfigMap", config)["data"]["nats.conf"]
    (line,) = [one for one in text.splitlines() if "max_file_store" in one]
    store_gb = int(line.partition(":")[2].strip().removesuffix("GB"))
    disk_gib = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))

    # nats-server refuses a stream whose bound does not fit beside the others'.
    assert sum(stream.max_bytes for stream in STREAMS) < store_gb * 1024**3
    assert store_gb < disk_gib


@with_a_bus
def test_the_provision_job_asks_for_as_many_copies_as_there_are_servers(name: str) -> None:
    (job,) = [one for one in workloads(name) if one.name == "provision-bus"]
    (nats,) = [one for one in workloads(name) if one.name == "nats"]

    assert job.containers[0]["args"][-2:] == ["--replicas", str(nats.doc["spec"]["replicas"])]
