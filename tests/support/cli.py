"""Run the `octarm` command in this process and look at what it writes."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from octarm.cli.__main__ import run


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as exactly one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Cli:
    """The command line with a home folder of its own."""

    home: Path
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *arguments: str, stdin: str = "") -> Ran:
        """Run it to its end."""
        out, err = io.StringIO(), io.StringIO()
        self.monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(arguments)
        return Ran(code, out.getvalue(), err.getvalue())

    def env(self, **values: str) -> None:
        """Set environment variables for the rest of the test."""
        for name, value in values.items():
            self.monkeypatch.setenv(name, value)
