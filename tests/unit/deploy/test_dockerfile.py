"""The image: pinned, of two stages, for a user without a name, with nothing to build with."""

import json
import re
import tomllib

import pytest

from tests.support.manifests.cluster import workloads
from tests.support.manifests.dockerfile import stages
from tests.support.sources import ROOT

DOCKERFILE = ROOT / "deploy/Dockerfile"
STAGES = {stage.name: stage for stage in stages(DOCKERFILE)}
BUILD, RUNTIME = STAGES["build"], STAGES["runtime"]
SERVICES = [
    "gateway",
    "orchestrator",
    "scheduler",
    "arm-registry",
    "memory",
    "llm",
    "retriever",
    "cli",
]
# Its sandbox is made of namespaces, which no restricted pod may make.
IMAGES = [*SERVICES, "executor"]
SECRET = re.compile(r"password|secret|token|api_?key", re.IGNORECASE)


def test_every_base_has_an_exact_tag() -> None:
    for stage in STAGES.values():
        assert re.search(r":\d+\.\d+\.\d+", stage.image), stage.image


def test_the_two_bases_are_one_so_that_the_environment_finds_its_python() -> None:
    assert BUILD.image == RUNTIME.image
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == ">=3.11"
    assert RUNTIME.image.startswith("python:3.11.")


def test_uv_is_the_one_of_the_makefile() -> None:
    (version,) = re.findall(r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert STAGES["uv"].image == f"ghcr.io/astral-sh/uv:{version}"


def test_only_the_environment_comes_from_the_stage_that_builds() -> None:
    copies = RUNTIME.of("COPY")

    assert [(one.flags, one.value) for one in copies] == [
        ({"from": "build"}, "/opt/octarm /opt/octarm")
    ]
    assert list(STAGES)[-1] == "runtime"


def test_stages_that_are_copied_from_are_there() -> None:
    for stage in STAGES.values():
        for one in stage.of("COPY"):
            assert one.flags.get("from", "build") in STAGES


def test_what_installs_packages_is_gone() -> None:
    (run,) = RUNTIME.of("RUN")

    assert {"pip", "setuptools", "wheel"} <= set(run.value.split())
    assert "rm -rf /var/lib/apt/lists/*" in run.value
    installed = re.findall(r"apt-get install [^;]*", DOCKERFILE.read_text())
    assert installed == ["apt-get install --yes --no-install-recommends bubblewrap"]
    assert not re.search(r"apk|curl|wget", DOCKERFILE.read_text())


def test_it_runs_as_a_number_that_is_not_root() -> None:
    (user,) = RUNTIME.of("USER")

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user.value)
    pods = {one.pod["securityContext"]["runAsUser"] for one in workloads("prod") if one.is_ours}
    assert pods == {int(user.value.partition(":")[0])}


def test_it_writes_nowhere_but_to_tmp() -> None:
    environment = RUNTIME.environment()

    assert environment["HOME"] == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert [one.value for one in RUNTIME.of("WORKDIR")] == ["/tmp"]
    assert BUILD.environment()["UV_COMPILE_BYTECODE"] == "1"
    assert not RUNTIME.of("VOLUME")


def test_what_is_started_gets_the_signals() -> None:
    (entry,), (stop,) = RUNTIME.of("ENTRYPOINT"), RUNTIME.of("STOPSIGNAL")

    assert json.loads(entry.value) == ["/opt/octarm/bin/octarm-service"]
    assert not RUNTIME.of("CMD")
    assert stop.value == "SIGTERM"
    # The shell that the launcher begins with gives its place to Python.
    assert r"exec /opt/octarm/bin/python -m %s" in BUILD.of("RUN")[0].value


def test_its_health_is_asked_for_without_another_program() -> None:
    (check,) = RUNTIME.of("HEALTHCHECK")
    command = json.loads(check.value.partition("CMD")[2])

    assert command[:2] == ["/opt/octarm/bin/python", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert "/healthz" in command[2]


def test_the_port_is_the_one_of_the_pods() -> None:
    (expose,) = RUNTIME.of("EXPOSE")

    assert RUNTIME.environment()["OCTARM_HTTP_PORT"] == expose.value
    assert {one.ports["http"] for one in workloads("prod") if one.is_ours and one.ports} == {
        int(expose.value)
    }


def test_no_secret_is_built_in() -> None:
    for stage in STAGES.values():
        for one in [*stage.of("ARG"), *stage.of("ENV")]:
            assert not SECRET.search(one.rest)
        assert not stage.of("ADD")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignore = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    for one in BUILD.of("COPY"):
        if "from" not in one.flags:
            for source in one.value.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignore
    assert "*" in ignore


@pytest.mark.parametrize("service", IMAGES)
def test_every_image_has_its_package(service: str) -> None:
    name = "octarm" if service == "cli" else f"octarm-{service}"
    module = service.replace("-", "_")
    (project,) = [
        path.parent
        for path in ROOT.glob("*/**/pyproject.toml")
        if tomllib.loads(path.read_text())["project"]["name"] == name
    ]

    assert (project / "src/octarm" / module / "__main__.py").exists()


def test_the_manifests_ask_for_no_other_image() -> None:
    asked = {
        container["image"].partition(":")[0].rpartition("octarm/")[2]
        for one in workloads("dev")
        for container in one.containers
        if one.is_ours
    }

    assert asked == set(SERVICES)
