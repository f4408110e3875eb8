"""The page says what there is, and no more."""

import re

from tests.support.manifests.cluster import K8S, OVERLAYS, overlay, secrets, workloads
from tests.unit.deploy.test_dockerfile import SERVICES

PAGE = (K8S / "README.md").read_text(encoding="utf-8")
HASH = re.compile(r"-[a-z0-9]{10}$")


def objects() -> set[str]:
    return {
        HASH.sub("", doc["metadata"]["name"])
        if doc["kind"] == "ConfigMap"
        else doc["metadata"]["name"]
        for name in OVERLAYS
        for doc in overlay(name)
    }


def test_the_table_names_every_object_and_nothing_else() -> None:
    table = PAGE.partition("## What each object is for")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}

    assert named == objects()


def test_every_secret_is_named() -> None:
    services = {f"octarm-{one.name}" for one in workloads("dev") if one.is_ours}

    assert all(f"`{name}`" in PAGE for name in secrets().keys() - services)


def test_the_walk_through_builds_and_loads_every_image() -> None:
    built, loaded = re.findall(r"for service in ([a-z -]+); do", PAGE)

    assert {*built.split(), "llm"} == set(SERVICES)
    assert set(loaded.split()) == set(SERVICES)


def test_requests_are_those_of_the_manifests() -> None:
    rows = {row.split("|")[1].strip(): row for row in PAGE.splitlines() if row.count("|") == 6}
    for workload in workloads("prod"):
        row = rows.get({"llm": "an arm"}.get(workload.name, workload.name))
        if row and workload.is_ours:
            asked = workload.containers[0]["resources"]["requests"]
            wanted = f"{asked['cpu']}, {asked['memory'].removesuffix('Mi')} MiB"
            assert wanted in row, workload.name
