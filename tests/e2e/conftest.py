"""One embedded stack for all tests of this folder, started as a user starts it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.wait import wait_until

# Not how long things take: how long a machine with much else to do may make them wait.
START_S = 240.0
STOP_S = 240.0
COMMAND_S = 240.0


@dataclass(frozen=True)
class Up:
    """A running stack."""

    data: Path
    gateway: str
    nats: str
    pids: dict[str, int]

    def octarm(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command line against this stack."""
        return subprocess.run(
            [sys.executable, "-m", "octarm.cli", *arguments],
            env=os.environ | {"OCTARM_URL": self.gateway, "OCTARM_DATA": str(self.data)},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def spans(self) -> list[dict[str, Any]]:
        """Everything that has been traced so far."""
        return [
            json.loads(line)
            for path in sorted((self.data / "traces").glob("*.jsonl"))
            for line in path.read_text().splitlines()
        ]


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A stack for all tests that leave it as they found it."""
    with _running(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest.fixture
def up_alone(tmp_path: Path) -> Iterator[Up]:
    """A stack for a test that may drain its arms and fill its queue."""
    with _running(tmp_path / "up") as up:
        yield up


@contextmanager
def _running(data: Path) -> Iterator[Up]:
    """With the executor arm; only traces that ask for it are sampled."""
    data.mkdir(exist_ok=True)
    environment = os.environ | {
        "OCTARM_TRACE_EXPORT": f"file:{data / 'traces'}",
        "OCTARM_TRACE_SAMPLE": "0",
    }
    command = [sys.executable, "-m", "octarm.cli", "up", "--data", str(data), "--arms", "executor"]
    with (data / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            file = data / "up.json"
            asyncio.run(wait_until(lambda: file.exists() or process.poll() is not None, START_S))
            assert process.poll() is None, (data / "up.log").read_text()
            content = json.loads(file.read_text())
            up = Up(data, content["gateway"], content["nats"], content["pids"])
            yield up
            verified = up.octarm("ledger", "verify", "--live", "--wait", "30")
            assert verified.returncode == 0, verified.stderr
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)
