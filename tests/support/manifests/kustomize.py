"""Rendering the part of kustomize that deploy/k8s uses; anything else is refused.

Where `kubectl` or `kustomize` is installed a test compares the two.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.manifests.generating import generated, hashed
from tests.support.manifests.patching import Doc, NotSupported, json_patched, merged
from tests.support.manifests.references import rename_references

KEYS: Final = {
    *("apiVersion", "kind", "resources", "components", "namespace", "nameSuffix", "labels"),
    *("images", "replicas", "patches", "configMapGenerator"),
}
CLUSTER_SCOPED: Final = {"Namespace", "PriorityClass"}


@dataclass
class Resource:
    """A document, the names that it had, and whether its name is to end with its hash."""

    doc: Doc
    names: set[str] = field(default_factory=set)
    is_generated: bool = False

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.doc["kind"])

    @property
    def name(self) -> str:
        """Its present name."""
        return str(self.doc["metadata"]["name"])

    def called(self, kind: str, name: str) -> bool:
        """Tell whether it has this kind and has, or had, this name."""
        return self.kind == kind and name in {self.name, *self.names}


def render(folder: Path) -> list[Doc]:
    """Give every document of a kustomization, as `kubectl kustomize` would.

    Raises:
        NotSupported: it uses a field that is not among KEYS.
    """
    resources = _build(folder, [])
    renamed: dict[tuple[str, str], str] = {}
    for resource in resources:
        if resource.is_generated:
            old, new = resource.name, f"{resource.name}-{hashed(resource.doc)}"
            resource.doc["metadata"]["name"] = renamed["ConfigMap", old] = new
    for resource in resources:
        rename_references(resource.doc, renamed)
    return [resource.doc for resource in resources]


def documents(path: Path) -> list[Doc]:
    """Read the documents of a YAML file."""
    return [doc for doc in yaml.safe_load_all(path.read_text(encoding="utf-8")) if doc]


def _build(folder: Path, given: list[Resource]) -> list[Resource]:
    (kustomization,) = documents(folder / "kustomization.yaml")
    if unknown := kustomization.keys() - KEYS:
        raise NotSupported(f"{folder}: {', '.join(sorted(unknown))}")
    resources = list(given)
    for name in kustomization.get("resources", ()):
        path = folder / name
        if path.is_dir():
            resources += _build(path, [])
        else:
            resources += [Resource(doc) for doc in documents(path)]
    for name in kustomization.get("components", ()):
        resources = _build(folder / name, resources)
    for generator in kustomization.get("configMapGenerator", ()):
        _generate(folder, generator, resources)
    for patch in kustomization.get("patches", ()):
        resources = _patched(folder, patch, resources)
    _transform(kustomization, resources)
    return resources


def _generate(folder: Path, generator: Doc, resources: list[Resource]) -> None:
    doc = generated(folder, generator)
    found = [one for one in resources if one.called("ConfigMap", generator["name"])]
    if generator.get("behavior", "create") == "merge":
        (known,) = found
        known.doc["data"] |= doc["data"]
    elif found:
        raise NotSupported(f"{generator['name']} is generated twice")
    else:
        resources.append(Resource(doc, is_generated=True))


def _patched(folder: Path, patch: Doc, resources: list[Resource]) -> list[Resource]:
    text = patch.get("patch") or (folder / patch["path"]).read_text(encoding="utf-8")
    (content,) = yaml.safe_load_all(text)
    target = patch.get("target")
    if target is None:
        kind, name = content["kind"], content["metadata"]["name"]
        chosen = [one for one in resources if one.called(kind, name)]
    else:
        chosen = [one for one in resources if _matches(one, target)]
    if not chosen:
        raise LookupError(f"{folder}: a patch has no target: {patch}")
    if isinstance(content, dict) and content.get("$patch") == "delete":
        return [one for one in resources if one not in chosen]
    for one in chosen:
        if isinstance(content, list):
            one.doc = json_patched(one.doc, content)
        else:
            # Which object it is for stands in the target, or is the same here and there.
            identity = {key: one.doc[key] for key in ("apiVersion", "kind")}
            metadata = {**content.get("metadata", {}), "name": one.name}
            one.doc = merged(one.doc, {**content, **identity, "metadata": metadata})
    return resources


def _matches(resource: Resource, target: Doc) -> bool:
    if unknown := target.keys() - {"kind", "name", "labelSelector"}:
        raise NotSupported(f"target by {unknown}")
    labels = resource.doc["metadata"].get("labels", {})
    wanted = [pair.split("=") for pair in target.get("labelSelector", "").split(",") if pair]
    return (
        re.fullmatch(target.get("kind", ".*"), resource.kind) is not None
        and any(
            re.fullmatch(target.get("name", ".*"), name)
            for name in {resource.name, *resource.names}
        )
        and all(labels.get(key) == value for key, value in wanted)
    )


def _transform(kustomization: Doc, resources: list[Resource]) -> None:
    """Do what kustomize does after the patches, in its order."""
    for resource in resources:
        if (namespace := kustomization.get("namespace")) and resource.kind not in CLUSTER_SCOPED:
            resource.doc["metadata"]["namespace"] = namespace
    _suffix(kustomization.get("nameSuffix", ""), resources)
    for label in kustomization.get("labels", ()):
        for resource in resources:
            _label(resource.doc, label)
    for entry in kustomization.get("replicas", ()):
        for resource in resources:
            if resource.kind in ("Deployment", "StatefulSet") and resource.name == entry["name"]:
                resource.doc["spec"]["replicas"] = entry["count"]
    for image in kustomization.get("images", ()):
        for container in (one for each in resources for one in containers(each.doc)):
            container["image"] = _image(container["image"], image)


def _suffix(suffix: str, resources: list[Resource]) -> None:
    if not suffix:
        return
    renamed = {}
    for resource in resources:
        if resource.kind not in CLUSTER_SCOPED:
            resource.names.add(resource.name)
            renamed[resource.kind, resource.name] = resource.name + suffix
            resource.doc["metadata"]["name"] += suffix
    for resource in resources:
        rename_references(resource.doc, renamed)


def _label(doc: Doc, label: Doc) -> None:
    pairs, spec = label["pairs"], doc.get("spec", {})
    doc["metadata"].setdefault("labels", {}).update(pairs)
    below = label.get("includeSelectors") or label.get("includeTemplates")
    if below and "template" in spec:
        spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(pairs)
    if not label.get("includeSelectors"):
        return
    if doc["kind"] == "Service":
        spec.setdefault("selector", {}).update(pairs)
    elif doc["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
        spec["selector"].setdefault("matchLabels", {}).update(pairs)
        for spread in pod_of(doc).get("topologySpreadConstraints", ()):
            spread["labelSelector"]["matchLabels"].update(pairs)
    elif doc["kind"] != "ServiceAccount":
        raise NotSupported(f"includeSelectors for a {doc['kind']}")


def _image(image: str, entry: Doc) -> str:
    name, _, tag = image.partition(":")
    if name != entry["name"]:
        return image
    name, tag = entry.get("newName", name), entry.get("newTag", tag)
    return f"{name}:{tag}" if tag else name


def pod_of(doc: Doc) -> Doc:
    """Give the pod's spec of a workload; empty for anything else."""
    template: Any = doc.get("spec", {}).get("template", {})
    return template.get("spec", {}) if isinstance(template, dict) else {}


def containers(doc: Doc) -> list[Doc]:
    """Give the containers of a workload, those that only begin it too."""
    pod = pod_of(doc)
    return [*pod.get("initContainers", ()), *pod.get("containers", ())]
