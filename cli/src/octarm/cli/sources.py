"""Files that are policies."""

from pathlib import Path
from typing import Final

from octarm.models.errors import InvalidRequest
from octarm.models.policies import MAX_SOURCE

PATH: Final = "/v1/policies"
KINDS: Final = {".star": "starlark", ".yaml": "yaml", ".yml": "yaml"}


def read_source(file: Path) -> tuple[str, str]:
    """Give a file's text and its kind.

    Raises:
        InvalidRequest: it is not there, no text, too large, or its name does not say its kind.
    """
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise InvalidRequest(
            f"{file}: what is it?", "A policy's file ends in .star, .yaml or .yml."
        )
    return read_text(file), kind


def read_text(file: Path) -> str:
    """Give a file's text.

    Raises:
        InvalidRequest: it is not there, no text, empty, or too large.
    """
    try:
        # One byte more than the largest text may have, not all of a huge file.
        with file.open("rb") as opened:
            body = opened.read(4 * MAX_SOURCE + 1)
        text = body.decode("utf-8")
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{file} is not UTF-8: byte {error.start} is {body[error.start]:#x}",
            "Save it as UTF-8.",
        ) from None
    if not 0 < len(text) <= MAX_SOURCE:
        raise InvalidRequest(f"{file} has {len(text)} characters; 1 to {MAX_SOURCE} are taken")
    return text
