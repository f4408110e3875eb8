"""The renderer does what kustomize does, for what deploy/k8s uses of it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.manifests.cluster import K8S, OVERLAYS, overlay
from tests.support.manifests.kustomize import documents, render
from tests.support.manifests.patching import (
    MERGE_KEYS,
    Doc,
    NotSupported,
    json_patched,
    key_of,
    merged,
)

SERVICES = sorted(path.parent.name for path in K8S.glob("services/*/kustomization.yaml"))


def _kustomize() -> list[str] | None:
    for command, version in (
        (["kustomize", "build"], ["kustomize", "version"]),
        (["kubectl", "kustomize"], ["kubectl", "version", "--client"]),
    ):
        if shutil.which(command[0]):
            said = subprocess.run(version, check=False, capture_output=True, text=True, timeout=60)
            # Before version 5 it did not know `labels` with `includeTemplates`.
            if "v5." in said.stdout:
                return command
    return None


def _in_order(value: Any, field: str = "") -> Any:
    """Sort the lists whose elements are told apart by a key: their order means nothing."""
    if isinstance(value, dict):
        return {key: _in_order(one, key) for key, one in value.items()}
    if not isinstance(value, list):
        return value
    elements = [_in_order(one) for one in value]
    if field in MERGE_KEYS and elements and isinstance(elements[0], dict):
        return sorted(elements, key=lambda one: str(key_of(one, field)))
    return elements


def _by_name(docs: list[Doc]) -> dict[tuple[str, str], Doc]:
    return {(doc["kind"], doc["metadata"]["name"]): _in_order(doc) for doc in docs}


@pytest.mark.parametrize("name", OVERLAYS)
def test_renders_what_kustomize_renders(name: str) -> None:
    command = _kustomize()
    if command is None:
        pytest.skip("neither kustomize nor kubectl of version 5 is installed")
    done = subprocess.run(
        [*command, str(K8S / "overlays" / name)], check=True, capture_output=True, timeout=120
    )

    assert _by_name(overlay(name)) == _by_name(list(yaml.safe_load_all(done.stdout)))


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_a_name_and_at_most_three_patches(service: str) -> None:
    (kustomization,) = documents(K8S / "services" / service / "kustomization.yaml")

    assert kustomization["resources"][0] == "../../base/service"
    assert kustomization["nameSuffix"] == f"-{service}"
    assert 1 <= len(kustomization["patches"]) <= 3


def test_a_field_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("helmCharts: []")

    with pytest.raises(NotSupported, match="helmCharts"):
        render(tmp_path)


def test_a_patch_without_a_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("patches: [{path: patch.yaml}]")
    (tmp_path / "patch.yaml").write_text("{kind: Service, metadata: {name: nobody}}")

    with pytest.raises(LookupError, match="has no target"):
        render(tmp_path)


def test_a_changed_file_gives_a_config_map_another_name(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        "configMapGenerator: [{name: settings, files: [a.conf], literals: [B=1]}]"
    )
    names = set()
    for content in ("one", "two"):
        (tmp_path / "a.conf").write_text(content)
        (config,) = render(tmp_path)
        assert config["data"] == {"a.conf": content, "B": "1"}
        names.add(config["metadata"]["name"])

    assert len(names) == 2


def test_keyed_lists_are_merged_and_others_replaced() -> None:
    base = {"containers": [{"name": "a", "args": ["1"], "env": [{"name": "X", "value": "1"}]}]}
    patch = {
        "containers": [
            {"name": "a", "args": ["2"], "env": [{"name": "Y", "value": "2"}]},
            {"name": "b"},
        ]
    }

    assert merged(base, patch) == {
        "containers": [
            {
                "name": "a",
                "args": ["2"],
                "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
            },
            {"name": "b"},
        ]
    }


def test_null_takes_a_field_away() -> None:
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None}, "d": {"e": None}}) == {
        "a": {"c": 2},
        "d": {},
    }


def test_a_json_patch_adds_replaces_and_removes() -> None:
    doc = {"spec": {"args": ["a", "b"], "replicas": 1, "old": True}}

    patched = json_patched(
        doc,
        [
            {"op": "add", "path": "/spec/args/-", "value": "c"},
            {"op": "replace", "path": "/spec/replicas", "value": 3},
            {"op": "remove", "path": "/spec/old"},
            {"op": "add", "path": "/spec/a~1b", "value": 1},
        ],
    )

    assert patched == {"spec": {"args": ["a", "b", "c"], "replicas": 3, "a/b": 1}}
    assert doc["spec"]["replicas"] == 1


def test_a_json_patch_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError):
        json_patched({"spec": {}}, [{"op": "replace", "path": "/spec/replicas", "value": 3}])
