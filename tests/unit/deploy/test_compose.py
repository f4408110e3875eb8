"""Compose runs the same images, tells them the same, and opens nothing to the network."""

import re
from typing import Any

import pytest
import yaml

from tests.support.manifests.cluster import workloads
from tests.support.manifests.processes import readable, required
from tests.support.sources import ROOT

DEPLOY = ROOT / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
OURS = {name: one for name, one in SERVICES.items() if "build" in one}
URL = re.compile(r"\w+://(?:[^@/]*@)?([\w.-]+):(\d+)")


def test_every_workload_of_the_manifests_is_here() -> None:
    assert {one.name for one in workloads("dev")} - SERVICES.keys() == set()


def test_images_are_those_of_the_manifests() -> None:
    there = {one.name: one.containers[0]["image"] for one in workloads("dev")}
    # The small model is in the llm image of dev, whose tag the manifests keep.
    here = {name: one["image"].removesuffix("-local") for name, one in SERVICES.items()}

    assert {name: here[name] for name in there} == there
    assert all(re.search(r":v?\d+\.\d+\.\d+", one["image"]) for one in SERVICES.values())


@pytest.mark.parametrize("name", OURS)
def test_what_is_set_is_read_and_what_is_needed_is_set(name: str) -> None:
    environment = SERVICES[name]["environment"].keys()

    assert environment - readable(name) == set()
    assert required(name) - environment == set()


@pytest.mark.parametrize("name", OURS)
def test_it_is_built_for_the_service_that_its_image_is_called_after(name: str) -> None:
    one = SERVICES[name]

    assert one["build"]["dockerfile"] == "deploy/Dockerfile"
    assert one["image"].startswith(f"octarm/{one['build']['args']['SERVICE']}:")


@pytest.mark.parametrize("name", SERVICES)
def test_containers_may_do_little(name: str) -> None:
    one = SERVICES[name]

    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]


def test_ports_are_open_on_this_machine_only() -> None:
    for one in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ()))


def test_hosts_that_are_named_are_here() -> None:
    said = [value for one in OURS.values() for value in one["environment"].values()]
    for file in (DEPLOY / "compose").rglob("*.yaml"):
        said.append(file.read_text())
    hosts = {host for text in said for host, _ in URL.findall(text)} - {"0.0.0.0"}

    assert hosts
    assert hosts - SERVICES.keys() == set()


def test_prometheus_reads_every_process_of_ours_that_stays() -> None:
    config = yaml.safe_load((DEPLOY / "compose/prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    staying = {name for name, one in OURS.items() if one["restart"] == "unless-stopped"}

    assert set(job["static_configs"][0]["targets"]) == {f"{name}:8080" for name in staying}


def test_what_is_mounted_and_waited_for_is_there() -> None:
    volumes = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["volumes"]
    for one in SERVICES.values():
        for mount in one.get("volumes", ()):
            source = mount.partition(":")[0]
            assert source in volumes or (DEPLOY / source).exists(), mount
        for other in one.get("depends_on", ()):
            assert other in SERVICES
