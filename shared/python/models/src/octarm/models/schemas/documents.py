"""All generated files together: what they are to say, where they differ, how they are written."""

import json
from pathlib import Path
from typing import Any, Final

from octarm.models.schemas.asyncapi import asyncapi
from octarm.models.schemas.json_schemas import FOLDER, file_name, json_schemas
from octarm.models.schemas.proto_files import LOCK, FieldNumbers, grown, proto_files

PROTO: Final = "proto"
ASYNCAPI: Final = "asyncapi.json"
# Files of these kinds in these folders are ours alone: one that is not generated is too many.
_OWNED: Final = (f"{FOLDER}/*.schema.json", f"{PROTO}/**/*.proto")


def write(folder: Path) -> list[str]:
    """Bring the files in `folder` up to date; returns the names of those that changed."""
    changed = differences(folder)
    wanted = _documents(folder)
    for name in changed:
        path = folder / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def differences(folder: Path) -> list[str]:
    """Name the files in `folder` that are missing, outdated or too many."""
    wanted = _documents(folder)
    present = {str(path.relative_to(folder)) for pattern in _OWNED for path in folder.glob(pattern)}
    outdated = {name for name, text in wanted.items() if _read(folder / name) != text}
    return sorted(outdated | (present - wanted.keys()))


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _documents(folder: Path) -> dict[str, str]:
    lock = f"{PROTO}/{LOCK}"
    numbers: FieldNumbers = grown(json.loads(_read(folder / lock) or "{}"))
    schemas = {f"{FOLDER}/{file_name(name)}": _json(s) for name, s in json_schemas().items()}
    protos = {f"{PROTO}/{name}": text for name, text in proto_files(numbers).items()}
    return schemas | protos | {lock: _json(numbers), ASYNCAPI: _json(asyncapi())}


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
