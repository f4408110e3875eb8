"""Read HTML and PDF in a child process with bounded memory and time.

Both can be written so that their readers loop, or unpack to any size (the standard library's
reader of HTML takes time in the square of what is malformed). That ends one child, and one file
is left out.
"""

import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any, Final

from octarm.cli.ingest.document import Heading, Unreadable

MEMORY_BYTES: Final = 1024 * 1024 * 1024
CPU_S: Final = 60
WALL_S: Final = 180.0
TOO_MUCH: Final = "takes too much memory or time to read"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A text, its headings, and where its pages begin."""

    text: str
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()


def parsed(kind: str, data: bytes, *, cpu_s: int = CPU_S) -> Parsed:
    """Read `html` or `pdf`; blocks for as long as that takes.

    Raises:
        Unreadable: it is not of its kind, or takes too much.
    """
    command = [sys.executable, "-m", __name__, kind, str(cpu_s)]
    try:
        child = subprocess.run(
            command, input=data, capture_output=True, timeout=WALL_S, check=False
        )
        answer: dict[str, Any] = json.loads(child.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise Unreadable(TOO_MUCH) from None
    if "why" in answer:
        raise Unreadable(answer["why"])
    headings = tuple(Heading(**heading) for heading in answer["headings"])
    return Parsed(answer["text"], headings, tuple(answer["pages"]))


def read(kind: str, data: bytes) -> Parsed:
    """Read in this process; see `parsed`."""
    if kind == "pdf":
        # Loaded where it is needed: it costs a child that reads HTML a quarter of a second.
        from octarm.cli.ingest.pdf import pages_of

        return joined(pages_of(data))
    from octarm.cli.ingest.html import text_of

    try:
        html = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    return Parsed(*text_of(html))


def joined(pages: list[str]) -> Parsed:
    """Join pages by empty lines."""
    starts: list[int] = []
    length = 0
    for page in pages:
        starts.append(length)
        length += len(page) + 2
    # Halves of characters, as broken fonts give them, cannot be stored.
    text = "\n\n".join(pages).encode("utf-8", "replace").decode()
    return Parsed(text, pages=tuple(starts))


def _main(kind: str, cpu_s: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        answer = asdict(read(kind, sys.stdin.buffer.read()))
    except Unreadable as why:
        answer = {"why": str(why)}
    except MemoryError:
        answer = {"why": TOO_MUCH}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
