"""Where one object of Kubernetes names another one of its namespace."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.manifests.patching import Doc

Reference = tuple[str, Doc, str]


def references(doc: Doc) -> Iterator[Reference]:
    """Give each reference: the kind that is named, the object that holds the name, its key."""
    spec = doc.get("spec", {})
    template: Any = spec.get("template", {})
    if isinstance(template, dict) and "spec" in template:
        yield from _of_pod(template["spec"])
    if doc["kind"] == "StatefulSet":
        yield "Service", spec, "serviceName"
    target = spec.get("scaleTargetRef")
    if target:
        yield target.get("kind", "Deployment"), target, "name"
    for trigger in spec.get("triggers", ()):
        if "authenticationRef" in trigger:
            yield "TriggerAuthentication", trigger["authenticationRef"], "name"
    for reference in spec.get("secretTargetRef", ()):
        yield "Secret", reference, "name"


def _of_pod(pod: Doc) -> Iterator[Reference]:
    if "serviceAccountName" in pod:
        yield "ServiceAccount", pod, "serviceAccountName"
    for volume in pod.get("volumes", ()):
        for source in [volume, *volume.get("projected", {}).get("sources", ())]:
            if "configMap" in source:
                yield "ConfigMap", source["configMap"], "name"
            if "secret" in source:
                key = "secretName" if source is volume else "name"
                yield "Secret", source["secret"], key
    for container in [*pod.get("initContainers", ()), *pod.get("containers", ())]:
        for source in container.get("envFrom", ()):
            for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if key in source:
                    yield kind, source[key], "name"
        for variable in container.get("env", ()):
            found = variable.get("valueFrom", {})
            for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                if key in found:
                    yield kind, found[key], "name"


def rename_references(doc: Doc, renamed: Mapping[tuple[str, str], str]) -> None:
    """Let an object follow those that it names to their new names."""
    for kind, holder, key in references(doc):
        holder[key] = renamed.get((kind, holder[key]), holder[key])
