"""The history file: what clients asked, when, and what they were told; one JSON line each.

A line holds `process`, `invoke` and `complete` (nanoseconds of a clock that all processes of
the machine share), `op`, `args`, `outcome` (`ok`, `fail`: it certainly did not happen, `unknown`)
and `value`, what was answered. The operations that the checker knows:

| op | args | value |
|---|---|---|
| submit | tenant, key | task_id, created |
| publish | tenant, task_id | seq |
| get | tenant, task_id | state, attempt |
| cancel | tenant, task_id | state, attempt, cancelling (called off, still open) |
| list | tenant | task_ids |
| grant, reserve, settle | budget, amount (settle: reserved too) | |
| acquire, write, release | lease, token | token |
| steady | arm: nothing happens to it in this run | |

Others are kept and not judged.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from octarm.models.errors import OctarmError

Outcome = Literal["ok", "fail", "unknown"]
FLUSH_LINES: Final = 200
_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines


class Operation(msgspec.Struct, omit_defaults=True):
    """One line of a history."""

    process: str
    op: str
    invoke: int
    complete: int | None = None
    args: dict[str, Any] = {}
    outcome: Outcome = "unknown"
    value: dict[str, Any] = {}


class HistoryWriter:
    """Appends operations to a file; cheap, and safe between tasks and threads of one process.

    One writer a process, several processes may append to one file. What is still under way at
    `close` is written as unknown; of a process that is killed the last 200 lines may be missing.
    """

    def __init__(self, path: Path, *, process: str) -> None:
        self._file = path.open("ab", buffering=0)
        self._process = process
        self._lines: list[bytes] = []
        self._open: dict[int, Operation] = {}
        self._lock = Lock()

    def invoke(self, op: str, **args: Any) -> "Invocation":
        """Note that an operation begins now; end it with `ok`, `fail` or `unknown`."""
        operation = Operation(self._process, op, time.monotonic_ns(), args=args)
        self._open[id(operation)] = operation
        return Invocation(self, operation)

    @contextmanager
    def doing(self, op: str, **args: Any) -> Iterator["Invocation"]:
        """Note an operation around a block; an error of ours says whether it may have happened."""
        invocation = self.invoke(op, **args)
        try:
            yield invocation
        except OctarmError as error:
            certain = not error.retryable or error.category == "backpressure"
            invocation.end("fail" if certain else "unknown", code=error.code)
            raise
        finally:
            invocation.unknown()

    def note(self, op: str, **args: Any) -> None:
        """Note something that happens at one instant, like a fault that is injected."""
        self.invoke(op, **args).ok()

    def write(self, operation: Operation) -> None:
        """Append an ended operation."""
        with self._lock:
            self._open.pop(id(operation), None)
            self._lines.append(_encode(operation))
            if len(self._lines) >= FLUSH_LINES:
                self._flush()

    def write_all(self, operations: Sequence[Operation]) -> None:
        """Append operations that never went through `invoke`, with one encoding and one write."""
        if operations:
            lines = _encode_lines(operations)
            with self._lock:
                self._file.write(lines)

    def flush(self) -> None:
        """Hand everything that has ended to the operating system."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        """Write what is under way as unknown, and close. Idempotent."""
        for operation in list(self._open.values()):
            self.write(operation)
        self.flush()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _flush(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            # One write, so that several processes may append to one file.
            self._file.write(b"\n".join([*lines, b""]))


class Invocation:
    """An operation under way; the first of its ends counts."""

    __slots__ = ("_operation", "_writer")

    def __init__(self, writer: HistoryWriter, operation: Operation) -> None:
        self._writer = writer
        self._operation: Operation | None = operation

    def ok(self, **value: Any) -> None:
        """It happened, and this was the answer."""
        self.end("ok", **value)

    def fail(self, **value: Any) -> None:
        """It certainly did not happen."""
        self.end("fail", **value)

    def unknown(self, **value: Any) -> None:
        """Nobody knows whether it happened, or will."""
        self.end("unknown", **value)

    def end(self, outcome: Outcome, **value: Any) -> None:
        """End it; does nothing when it has ended."""
        operation, self._operation = self._operation, None
        if operation is None:
            return
        operation.outcome, operation.value = outcome, value
        operation.complete = time.monotonic_ns()
        self._writer.write(operation)


def read_history(path: Path) -> Iterator[Operation]:
    """Read a history file; a last line that was cut off by a crash is left out.

    Raises:
        ValueError: another line cannot be read; it names the line.
    """
    decode = msgspec.json.Decoder(Operation).decode
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                if not line.endswith(b"\n"):
                    return
                raise ValueError(f"{path}:{number} is not an operation: {error}") from error
