"""The golden messages as first inputs of the targets that choose what to read by a byte."""

import json

from tests.fuzz.targets import KINDS, STRUCTS_OF_HOT
from tests.support.messages import golden, golden_names, model_of


def seeds(target: str) -> list[bytes]:
    """Give the golden messages that a target may read."""
    found = []
    for name in golden_names():
        body = json.dumps(golden(name), separators=(",", ":")).encode()
        if target == "models":
            found.append(bytes([KINDS.index(model_of(name))]) + body)
        if target == "structs":
            found += [
                bytes([number]) + body
                for number, kind in enumerate(STRUCTS_OF_HOT)
                if kind.__name__ == name
            ]
    return found
