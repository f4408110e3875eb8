"""What a task asks this arm to run, read from its context and checked.

Pure: no file is touched and nothing is started here.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

MAX_FILES: Final = 20
MAX_FILE_NAME_CHARS: Final = 100
MAX_FILES_BYTES: Final = 1024 * 1024
MAX_ARGUMENT_BYTES: Final = 120_000
"""The kernel refuses a single argument of 128 KiB or more."""
MAX_ARGUMENTS: Final = 1_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadJob(ValueError):
    """The task does not say, in a form this arm accepts, what to run.

    `field` is the path of the offending value, for example `context.command`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Job:
    """One program to run once: an argument list, a shell line or a Python snippet.

    `text` is the shell line or the snippet, and the arguments joined by NUL for a list.
    """

    kind: Literal["argv", "shell", "python"]
    text: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    expect_exit_code: int = 0

    @property
    def argv(self) -> tuple[str, ...]:
        """The argument list; of a shell line, the shell that reads it."""
        if self.kind == "shell":
            return ("/bin/sh", "-c", self.text)
        return tuple(self.text.split("\0"))

    @property
    def command_hash(self) -> str:
        """SHA-256 hex of exactly what was asked for."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def job_from(context: Mapping[str, object], constraints: Mapping[str, object]) -> Job:
    """Read what to run from a task's context and constraints.

    Raises:
        BadJob: neither or both of `command` and `python` are given, or one is malformed.
    """
    command, snippet = context.get("command"), context.get("python")
    if (command is None) == (snippet is None):
        raise BadJob("context", "give exactly one of command (a list or a string) and python")
    files = _files(context.get("files"))
    expected = _exit_code(constraints.get("expect_exit_code", 0))
    if command is None:
        return Job("python", _text("context.python", snippet), files, expected)
    if isinstance(command, list):
        return Job("argv", _arguments(command), files, expected)
    return Job("shell", _text("context.command", command), files, expected)


def _arguments(values: list[object]) -> str:
    if not 1 <= len(values) <= MAX_ARGUMENTS:
        raise BadJob("context.command", f"needs 1 to {MAX_ARGUMENTS} arguments")
    arguments = [_argument(f"context.command[{i}]", value) for i, value in enumerate(values)]
    if not arguments[0]:
        raise BadJob("context.command[0]", "is empty")
    return "\0".join(arguments)


def _text(field: str, value: object) -> str:
    text = _argument(field, value)
    if not text.strip():
        raise BadJob(field, "is empty")
    return text


def _argument(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadJob(field, "must be a string")
    if "\0" in value:
        raise BadJob(field, "must not hold a NUL character")
    if len(_utf8(field, value)) > MAX_ARGUMENT_BYTES:
        raise BadJob(field, f"is longer than {MAX_ARGUMENT_BYTES} bytes")
    return value


def _utf8(field: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise BadJob(field, "holds half of a surrogate pair") from None


def _exit_code(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise BadJob("constraints.expect_exit_code", "must be a whole number from 0 to 255")
    return value


def _files(value: object) -> dict[str, bytes]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadJob("context.files", "must map file names to their text")
    if len(value) > MAX_FILES:
        raise BadJob("context.files", f"holds more than {MAX_FILES} files")
    files = {_file_name(name): _file_bytes(text) for name, text in value.items()}
    if sum(map(len, files.values())) > MAX_FILES_BYTES:
        raise BadJob("context.files", f"hold more than {MAX_FILES_BYTES} bytes together")
    return files


def _file_name(name: object) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_FILE_NAME_CHARS:
        raise BadJob("context.files", f"a name must have 1 to {MAX_FILE_NAME_CHARS} characters")
    if "/" in name or name in {".", ".."} or _CONTROL.search(name):
        raise BadJob("context.files", "a name must not hold a slash or a control character")
    if len(_utf8("context.files", name)) > 255:
        raise BadJob("context.files", "a name is longer than 255 bytes")
    return name


def _file_bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise BadJob("context.files", "the content of a file must be text")
    return _utf8("context.files", text)
