"""Every object is one that Kubernetes takes, and all that it names is there."""

import itertools
from collections import Counter

import kubernetes_validate
import pytest

from tests.support.manifests.cluster import (
    OVERLAYS,
    Workload,
    made_secrets,
    of_kind,
    overlay,
    secrets,
    variables,
    workloads,
)
from tests.support.manifests.references import references

# The oldest that knows all we use, one between, and the newest that the schemas are there for.
VERSIONS = ("1.32", "1.34", "1.37")
MANAGED = ("prod-managed", "prod-managed-nats")
OWN_KINDS = ("ScaledObject", "TriggerAuthentication")


@pytest.mark.parametrize(
    ("name", "version"),
    [*itertools.product(("dev", "prod"), VERSIONS), *itertools.product(MANAGED, VERSIONS[-1:])],
)
def test_kubernetes_takes_every_object(name: str, version: str) -> None:
    for doc in overlay(name):
        if doc["kind"] not in OWN_KINDS:
            assert kubernetes_validate.validate(doc, version, strict=True) == version


@pytest.mark.parametrize("servers", [1, 3])
def test_kubernetes_takes_every_secret(servers: int) -> None:
    made = made_secrets(servers)

    assert made
    for doc in made:
        kubernetes_validate.validate(doc, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_two_objects_have_one_name(name: str) -> None:
    counted = Counter((doc["kind"], doc["metadata"]["name"]) for doc in overlay(name))

    assert [key for key, count in counted.items() if count > 1] == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_is_named_is_there(name: str) -> None:
    there = {(doc["kind"], doc["metadata"]["name"]) for doc in overlay(name)}
    there |= {("Secret", secret) for secret in secrets()}
    named = {(kind, holder[key]) for doc in overlay(name) for kind, holder, key in references(doc)}

    assert named - there == set()


def test_every_secret_is_used_somewhere() -> None:
    named = {
        holder[key]
        for name in OVERLAYS
        for doc in overlay(name)
        for kind, holder, key in references(doc)
        if kind == "Secret"
    }

    # For the person who sends the first task.
    assert secrets().keys() - named == {"octarm-client"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_key_of_a_config_map_that_a_variable_takes_is_there(name: str) -> None:
    for workload in workloads(name):
        for container in workload.containers:
            assert dict(variables(name, container)) is not None


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_config_map_is_used(name: str) -> None:
    named = {
        holder[key]
        for doc in overlay(name)
        for kind, holder, key in references(doc)
        if kind == "ConfigMap"
    }

    assert {doc["metadata"]["name"] for doc in of_kind(name, "ConfigMap")} - named == set()


@pytest.mark.parametrize("name", OVERLAYS)
def test_volumes_and_mounts_belong_together(name: str) -> None:
    for workload in workloads(name):
        volumes = {one["name"] for one in workload.pod.get("volumes", ())} | {
            claim["metadata"]["name"]
            for claim in workload.doc["spec"].get("volumeClaimTemplates", ())
        }
        assert volumes == _mounted(workload), workload.name


def _mounted(workload: Workload) -> set[str]:
    return {
        mount["name"]
        for container in workload.containers
        for mount in container.get("volumeMounts", ())
    }
