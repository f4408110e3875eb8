"""Patches as Kubernetes means them: strategic merge and JSON patch, as far as we use them."""

import copy
from typing import Any, Final

Doc = dict[str, Any]

# By which field the elements of a list are told apart; every other list is replaced as a whole.
MERGE_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port"),
    "topologySpreadConstraints": ("topologyKey",),
}


class NotSupported(Exception):
    """A manifest uses something of kustomize that this renderer does not do."""


def merged(base: Any, patch: Any, *, field: str = "") -> Any:
    """Give `base` with a strategic merge patch applied; neither is changed."""
    if isinstance(base, dict) and isinstance(patch, dict):
        result = copy.deepcopy(base)
        for key, value in patch.items():
            if key.startswith("$"):
                raise NotSupported(f"the directive {key} within a patch")
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merged(result.get(key), value, field=key)
        return result
    if isinstance(base, list) and isinstance(patch, list) and field in MERGE_KEYS:
        return _merged_list(base, patch, field)
    return _without_nulls(patch)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return copy.deepcopy(value)


def _merged_list(base: list[Any], patch: list[Any], field: str) -> list[Any]:
    result = copy.deepcopy(base)
    for element in patch:
        key = key_of(element, field)
        for index, known in enumerate(result):
            if key_of(known, field) == key:
                result[index] = merged(known, element)
                break
        else:
            result.append(_without_nulls(element))
    return result


def key_of(element: Doc, field: str) -> Any:
    """Give what tells an element of a keyed list from the others."""
    return next((element[name] for name in MERGE_KEYS[field] if name in element), None)


def json_patched(doc: Doc, operations: list[Doc]) -> Doc:
    """Give `doc` with a JSON patch applied (RFC 6902: add, replace, remove).

    Raises:
        KeyError, IndexError: what is to be replaced or removed is not there.
    """
    result = copy.deepcopy(doc)
    for operation in operations:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~")
            for part in operation["path"].removeprefix("/").split("/")
        ]
        at: Any = result
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at[part]
        _apply(at, last, operation)
    return result


def _apply(at: Any, last: str, operation: Doc) -> None:
    what, value = operation["op"], copy.deepcopy(operation.get("value"))
    if isinstance(at, list):
        index = len(at) if last == "-" else int(last)
        if what == "add":
            at.insert(index, value)
        elif what == "replace":
            at[index] = value
        elif what == "remove":
            del at[index]
        else:
            raise NotSupported(f"the operation {what}")
        return
    if what == "remove" or what == "replace":
        at.pop(last) if what == "remove" else at[last]
    if what in ("add", "replace"):
        at[last] = value
    elif what != "remove":
        raise NotSupported(f"the operation {what}")
