"""ConfigMaps made of files and literals, named by their content as kustomize does."""

import hashlib
import json
from pathlib import Path
from typing import Final

from tests.support.manifests.patching import Doc, NotSupported

HASH_CHARACTERS: Final = str.maketrans("013ae", "ghkmt")


def generated(folder: Path, generator: Doc) -> Doc:
    """Make the ConfigMap of an entry of `configMapGenerator`."""
    if unknown := generator.keys() - {"name", "behavior", "literals", "files"}:
        raise NotSupported(f"configMapGenerator with {unknown}")
    data = dict(literal.split("=", 1) for literal in generator.get("literals", ()))
    for file in generator.get("files", ()):
        key, _, path = file.rpartition("=")
        data[key or Path(path).name] = (folder / path).read_text(encoding="utf-8")
    metadata = {"name": generator["name"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def hashed(doc: Doc) -> str:
    """Give the ten characters that kustomize appends to the name of a ConfigMap.

    Kustomize means to hash the name too, but reads it where there is none: it is always empty.
    """
    content = {"data": doc["data"], "kind": "ConfigMap", "name": ""}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Go writes these as escapes, for the sake of HTML.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return digest[:10].translate(HASH_CHARACTERS)
