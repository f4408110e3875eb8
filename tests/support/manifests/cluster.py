"""What a cluster would make of an overlay: its workloads, their environment, their secrets."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.manifests.kustomize import containers, pod_of, render
from tests.support.manifests.patching import Doc
from tests.support.sources import ROOT

K8S: Final = ROOT / "deploy/k8s"
OVERLAYS: Final = ("dev", "prod", "prod-managed", "prod-managed-nats")
WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")
NAME: Final = "app.kubernetes.io/name"
SECRETS: Final = "/run/secrets/octarm"


@dataclass(frozen=True)
class Workload:
    """A Deployment, StatefulSet or Job."""

    doc: Doc

    @property
    def name(self) -> str:
        """What it is called within Octarm: `gateway`, `nats`, `migrate-ledger`."""
        return str(self.labels[NAME])

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its pods."""
        labels: Mapping[str, str] = self.doc["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def pod(self) -> Doc:
        """The spec of its pods."""
        return pod_of(self.doc)

    @property
    def containers(self) -> list[Doc]:
        """The containers of its pods."""
        return containers(self.doc)

    @property
    def ports(self) -> dict[str, int]:
        """The named ports of its containers."""
        return {
            port["name"]: port["containerPort"]
            for container in self.containers
            for port in container.get("ports", ())
        }

    @property
    def is_ours(self) -> bool:
        """Whether it runs our code."""
        return any("octarm/" in container["image"] for container in self.containers)


@cache
def overlay(name: str) -> list[Doc]:
    """Give the documents of an overlay; they must not be changed."""
    return render(K8S / "overlays" / name)


def of_kind(name: str, *kinds: str) -> list[Doc]:
    """Give the documents of these kinds."""
    return [doc for doc in overlay(name) if doc["kind"] in kinds]


def workloads(name: str) -> list[Workload]:
    """Give all that runs pods."""
    return [Workload(doc) for doc in of_kind(name, *WORKLOADS)]


def object_of(name: str, kind: str, called: str) -> Doc:
    """Give one object.

    Raises:
        LookupError: there is none.
    """
    for doc in of_kind(name, kind):
        if doc["metadata"]["name"] == called:
            return doc
    raise LookupError(f"{name} has no {kind} {called}")


@cache
def secrets(servers: int = 3) -> dict[str, dict[str, str]]:
    """Give what `secrets.sh` makes: name of the Secret → key → value."""
    return {doc["metadata"]["name"]: doc["stringData"] for doc in made_secrets(servers)}


def made_secrets(servers: int) -> list[Doc]:
    """Run `secrets.sh`; every call makes others."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (Debian: apt install openssl)")
    command = [str(K8S / "secrets.sh"), str(servers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


def variables(overlay_name: str, container: Doc) -> Iterator[tuple[str, str]]:
    """Give the variables of a container that stand in manifests, with their values."""
    for source in container.get("envFrom", ()):
        config = object_of(overlay_name, "ConfigMap", source["configMapRef"]["name"])
        yield from config["data"].items()
    for entry in container.get("env", ()):
        if "value" in entry:
            yield entry["name"], entry["value"]
        elif reference := entry["valueFrom"].get("configMapKeyRef"):
            config = object_of(overlay_name, "ConfigMap", reference["name"])
            yield entry["name"], config["data"][reference["key"]]


def files(overlay_name: str, workload: Workload, mount: str) -> dict[str, str]:
    """Give the files that a pod finds in a folder: path below it → content."""
    (volume,) = [
        entry["name"]
        for container in workload.containers
        for entry in container["volumeMounts"]
        if entry["mountPath"] == mount
    ]
    (source,) = [one for one in workload.pod["volumes"] if one["name"] == volume]
    sources = source["projected"]["sources"] if "projected" in source else [source]
    found: dict[str, str] = {}
    for one in sources:
        found |= _files_of(overlay_name, one)
    return found


def _files_of(overlay_name: str, source: Doc) -> dict[str, str]:
    content: Mapping[str, str]
    if "configMap" in source:
        reference: Any = source["configMap"]
        content = object_of(overlay_name, "ConfigMap", reference["name"])["data"]
    else:
        reference = source["secret"]
        content = secrets()[reference.get("name") or reference["secretName"]]
    if "items" not in reference:
        return dict(content)
    return {item["path"]: content[item["key"]] for item in reference["items"]}


def lay_out(found: Mapping[str, str], folder: Path) -> None:
    """Write files as a volume would have them."""
    for name, content in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
