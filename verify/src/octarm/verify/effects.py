"""The file of side effects: one JSON line for each call that a tool really made.

`{"task_id": …, "attempt": 1, "call_no": 1}`; tools and test arms append to it as they act.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec


class Effect(msgspec.Struct):
    """One side effect, by the attempt and the number of the call that caused it."""

    task_id: str
    attempt: int
    call_no: int


def read_effects(path: Path) -> Iterator[tuple[str, int, int]]:
    """Read a file of side effects.

    Raises:
        ValueError: a whole line cannot be read; it names the line.
    """
    decode = msgspec.json.Decoder(Effect).decode
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                effect = decode(line)
            except msgspec.MsgspecError as error:
                if not line.endswith(b"\n"):
                    return
                raise ValueError(f"{path}:{number} is not a side effect: {error}") from error
            yield effect.task_id, effect.attempt, effect.call_no
