"""A guide as somebody follows it: the files that it shows, the commands that it gives."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"(?P<before>[^`]*(?:`[^`\n]+`[^`]*)*)```(?P<kind>\w+)\n(?P<body>.*?)```", re.S)
_FILE = re.compile(r"`([\w.-]+\.(?:py|star|yaml))`")


@dataclass(frozen=True)
class File:
    """A file to write."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command to run."""

    line: str


def steps(guide: Path) -> Iterator[File | Command]:
    """Give what is to be done, in order; a block that no file is named before is only shown."""
    for found in _BLOCK.finditer(guide.read_text(encoding="utf-8")):
        if found["kind"] == "console":
            for line in found["body"].splitlines():
                if line.startswith("$ "):
                    yield Command(line[2:])
            continue
        paragraph = found["before"].strip().rpartition("\n#")[2]
        if names := _FILE.findall(paragraph):
            yield File(names[-1], found["body"])
