"""Sample messages: the golden ones, and how to spoil them."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from octarm.models.schemas.catalogue import public_models

GOLDEN = Path(__file__).parents[1] / "contract" / "golden" / "v1"
MODELS: dict[str, type[BaseModel]] = {model.__name__: model for model in public_models()}


def golden(name: str) -> Any:
    """Read a golden message; `name` is the file's without `.json`."""
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def grown(name: str) -> Any:
    """Read the golden message of a model with the fields that came later."""
    later = sorted(GOLDEN.glob(f"{name}.*.json"))
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in later]
    return {key: value for part in [golden(name), *parts] for key, value in part.items()}


def golden_names() -> list[str]:
    return sorted(path.name.removesuffix(".json") for path in GOLDEN.glob("*.json"))


def model_of(name: str) -> type[BaseModel]:
    """Give the model of a golden message: `Model` or `Model.field`."""
    return MODELS[name.partition(".")[0]]


def with_value(message: Any, path: str, value: Any) -> Any:
    """Copy `message` with one value replaced; `path` has dots between keys and indices."""
    copy = deepcopy(message)
    place = copy
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    return copy
