"""The logs of an embedded stack: every process's lines as one story, in the order of time.

Our own processes write JSON; NATS, Redis and Postgres write as they do, and what these wrote is
shown without secrets too. A line without a time belongs to the one before it.
"""

import heapq
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from octarm.common.redaction import redact

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_NATS: Final = re.compile(r"\[\d+\] (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+) \[(\w+)\] (.*)")
_REDIS: Final = re.compile(r"\d+:\w (\d\d \w{3} \d{4} \d\d:\d\d:\d\d\.\d+) ([.*#-]) (.*)")
_POSTGRES: Final = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) (?:UTC|GMT) \[\d+\] (\w+):\s+(.*)"
)
_LEVEL_OF: Final = {
    **{"INF": "info", "WRN": "warning", "ERR": "error", "FTL": "critical", "DBG": "debug"},
    **{"LOG": "info", "WARNING": "warning", "ERROR": "error", "FATAL": "critical"},
    **{"PANIC": "critical", "TRC": "debug", "#": "warning", "-": "debug", ".": "debug"},
}
_HEAD: Final = ("timestamp", "level", "service", "event")


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One line; `fields` has what it says besides."""

    at: datetime
    service: str
    number: int
    level: str = field(compare=False)
    event: str = field(compare=False)
    fields: dict[str, Any] = field(compare=False, default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As one of our own processes would have written it."""
        head = (self.at.isoformat(), self.level, self.service, self.event)
        return dict(zip(_HEAD, head, strict=True)) | self.fields

    def mentions(self, task_id: str) -> bool:
        """Whether it is about a task, alone or among others."""
        return any(task_id == value or task_id in _each(value) for value in self.fields.values())


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are to be shown; empty: all."""

    services: frozenset[str] = frozenset()
    level: str = "debug"
    task_id: str = ""

    def __call__(self, line: Line) -> bool:
        """Tell whether a line is."""
        return (
            (not self.services or line.service in self.services)
            and _rank(line.level) >= _rank(self.level)
            and (not self.task_id or line.mentions(self.task_id))
        )


class LogFile:
    """One process's log; reading goes on where it ended, and begins anew with a new file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._service = path.name.split(".log")[0]
        self._inode = self._offset = self._number = 0
        self._at = datetime.fromtimestamp(0, UTC)

    def read(self) -> Iterator[Line]:
        """Give the whole lines that are new."""
        try:
            with self._path.open("rb") as file:
                inode = self._path.stat().st_ino
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        return
                    self._offset += len(raw)
                    if text := raw.decode("utf-8", "replace").strip():
                        yield self._line(text)
        except FileNotFoundError:
            return

    def _line(self, text: str) -> Line:
        self._number += 1
        at, level, event, fields = _ours(text) or _of_a_server(text)
        # A line without a time of its own, as those of a traceback, stays below the one before.
        self._at = max(self._at, at) if at else self._at
        service = str(fields.pop("service", self._service))
        return Line(self._at, service, self._number, level, event, fields)


Read = tuple[datetime | None, str, str, dict[str, Any]]


def merged(files: Iterable[LogFile], wanted: Callable[[Line], bool]) -> Iterator[Line]:
    """Give the new lines of all files that are wanted, by time."""
    return filter(wanted, heapq.merge(*(file.read() for file in files)))


def log_files(folder: Path, *, previous: bool = False) -> list[LogFile]:
    """List the logs of a stack; `previous`: those of the run before."""
    pattern = "*.log.1" if previous else "*.log"
    return [LogFile(path) for path in sorted(folder.glob(pattern))]


def _ours(text: str) -> Read | None:
    if not text.startswith("{"):
        return None
    try:
        fields = json.loads(text)
        at = datetime.fromisoformat(fields.pop("timestamp"))
        return at, str(fields.pop("level")), str(fields.pop("event")), fields
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _of_a_server(text: str) -> Read:
    for pattern, form, zone in (
        (_NATS, "%Y/%m/%d %H:%M:%S.%f", None),
        (_REDIS, "%d %b %Y %H:%M:%S.%f", None),
        (_POSTGRES, "%Y-%m-%d %H:%M:%S.%f", UTC),
    ):
        if (found := pattern.fullmatch(text)) is None:
            continue
        try:
            at = datetime.strptime(found[1], form)
        except ValueError:
            continue
        at = at.replace(tzinfo=zone) if zone else at.astimezone()
        return at, _LEVEL_OF.get(found[2], "info"), "server_message", _message(found[3])
    return None, "info", "server_message", _message(text)


def _message(text: str) -> dict[str, Any]:
    return {"message": redact(text).text}


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else 1


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | str) else ()
