"""A pod sets what its process reads, all that it needs, and nothing else."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsError

from octarm.common.service import read_settings
from tests.support.manifests.cluster import (
    OVERLAYS,
    SECRETS,
    Workload,
    files,
    lay_out,
    variables,
    workloads,
)
from tests.support.manifests.processes import (
    READ_BY,
    readable,
    required,
    secret_variables,
    variable,
)

every_overlay = pytest.mark.parametrize("name", OVERLAYS)
every_class = pytest.mark.parametrize(
    "settings", sorted({one for read in READ_BY.values() for one in read}, key=str)
)


def ours(name: str) -> list[Workload]:
    return [workload for workload in workloads(name) if workload.is_ours]


def in_environment(name: str, workload: Workload) -> dict[str, str]:
    (container,) = workload.containers
    return dict(variables(name, container))


def in_files(name: str, workload: Workload) -> dict[str, str]:
    """What the files of secrets set; those that are called otherwise are for others to read."""
    found = files(name, workload, SECRETS)
    return {key.upper(): value for key, value in found.items() if key.startswith("octarm_")}


@every_overlay
def test_every_workload_of_ours_is_known_here(name: str) -> None:
    assert {workload.name for workload in ours(name)} == {*READ_BY, "provision-bus"}


@every_overlay
def test_what_a_pod_sets_its_process_reads(name: str) -> None:
    for workload in ours(name):
        said = in_environment(name, workload).keys() | in_files(name, workload).keys()

        assert said - readable(workload.name) == set(), workload.name


@every_overlay
def test_what_a_process_needs_its_pod_sets(name: str) -> None:
    for workload in ours(name):
        said = in_environment(name, workload).keys() | in_files(name, workload).keys()

        assert {"OCTARM_SECRETS", *required(workload.name)} - said == set(), workload.name


@every_overlay
def test_no_secret_is_in_the_environment(name: str) -> None:
    for workload in ours(name):
        exposed = in_environment(name, workload).keys() & secret_variables(workload.name)

        assert exposed == set(), workload.name
    for workload in workloads(name):
        for container in workload.containers:
            for entry in container.get("env", ()):
                assert "secretKeyRef" not in entry.get("valueFrom", {}), workload.name
            assert not any("secretRef" in one for one in container.get("envFrom", ()))


@every_overlay
def test_every_process_takes_what_its_pod_sets(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workload in ours(name):
        folder = tmp_path / workload.name
        lay_out(files(name, workload, SECRETS), folder)
        for known in [key for key in os.environ if key.startswith("OCTARM_")]:
            monkeypatch.delenv(known)
        for key, value in in_environment(name, workload).items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("OCTARM_SECRETS", str(folder))

        for settings in READ_BY.get(workload.name, ()):
            values = read_settings(settings)
            for key, value in in_files(name, workload).items():
                assert taken(values, key) in (None, value.strip()), f"{workload.name}: {key}"


def taken(values: BaseSettings, key: str) -> str | None:
    for field in type(values).model_fields:
        if variable(type(values), field) == key:
            value = getattr(values, field)
            return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return None


@every_class
def test_every_setting_is_read_from_its_variable(
    settings: type[BaseSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in [key for key in os.environ if key.startswith("OCTARM_")]:
        monkeypatch.delenv(known)
    for name, field in settings.model_fields.items():
        if field.is_required():
            monkeypatch.setenv(variable(settings, name), "postgresql://by/hand")

    for name in settings.model_fields:
        with monkeypatch.context() as alone:
            alone.setenv(variable(settings, name), "set-by-hand")
            said = outcome(settings, name)

        assert name in said or "set-by-hand" in said, said


def outcome(settings: type[BaseSettings], field: str) -> str:
    """Give the value that a setting gets, or why it is refused."""
    try:
        value = getattr(settings(), field)
    except (ValidationError, SettingsError) as refused:
        return str(refused)
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


@every_overlay
def test_shards_are_the_same_everywhere_and_never_more_than_schedulers(name: str) -> None:
    said = {
        workload.name: shards
        for workload in ours(name)
        if (shards := in_environment(name, workload).get("OCTARM_SHARDS"))
    }
    (scheduler,) = [one for one in ours(name) if one.name == "scheduler"]

    assert said.keys() == {"gateway", "orchestrator", "scheduler", "provision-bus"}
    assert len(set(said.values())) == 1
    assert scheduler.doc["spec"]["replicas"] >= int(said["scheduler"])


@every_overlay
def test_every_process_listens_where_it_is_looked_for(name: str) -> None:
    for workload in ours(name):
        if workload.doc["kind"] != "Job":
            said = in_environment(name, workload)
            assert said["OCTARM_HTTP_HOST"] == "0.0.0.0"
            assert workload.ports == {"http": int(said["OCTARM_HTTP_PORT"])}
            annotations = workload.doc["spec"]["template"]["metadata"]["annotations"]
            assert annotations["prometheus.io/port"] == said["OCTARM_HTTP_PORT"]
