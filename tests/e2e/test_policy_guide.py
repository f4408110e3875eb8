"""The guide "Write your own policy in ten minutes", followed word for word on a fresh stack."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.guide import Command, File, steps
from tests.support.sources import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
GUIDE = ROOT / "docs/guides/policies.md"
START_S, STOP_S, COMMAND_S = 90.0, 60.0, 90.0
# A row of `octarm arms list` that says so.
ONLINE = re.compile(r"^(\S+)\s+online", re.MULTILINE)


class Reader:
    """Somebody who does what the guide says, in a folder of his own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: dict[str, str] = {}
        self._env = os.environ | {
            "OCTARM_DATA": str(folder / "data"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self._background: list[subprocess.Popen[bytes]] = []

    def run(self, line: str) -> str:
        """Run a command to its end; it must succeed."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        self.said[line] = done.stdout + done.stderr
        return done.stdout

    def start(self, line: str) -> None:
        """Leave a command running."""
        command = ["bash", "-c", f"exec {line.removesuffix('&')}"]
        self._background.append(subprocess.Popen(command, cwd=self.folder, env=self._env))

    def start_stack(self, line: str) -> None:
        """Leave a stack running, and wait as a person does until it says that it is ready."""
        log = self.folder / "up.log"
        self.start(f"{line} > {log}")
        give_up_at = time.monotonic() + START_S
        while "\nready " not in f"\n{log.read_text() if log.exists() else ''}":
            assert time.monotonic() < give_up_at, log.read_text()
            time.sleep(0.2)

    def look_until_online(self, line: str, *arm_ids: str) -> None:
        """Run a command again until it shows the arms as online."""
        give_up_at = time.monotonic() + START_S
        while not {*arm_ids} <= {*ONLINE.findall(self.run(line))}:
            assert time.monotonic() < give_up_at, self.said[line]
            time.sleep(0.2)

    def stop(self) -> None:
        """Press Ctrl-C in every terminal, the last one first."""
        for process in reversed(self._background):
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)


@contextmanager
def a_reader(folder: Path) -> Iterator[Reader]:
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.stop()


def test_the_guide_works_word_for_word(tmp_path: Path) -> None:
    with a_reader(tmp_path) as reader:
        for step in steps(GUIDE):
            match step:
                case File(name, text):
                    (tmp_path / name).write_text(text)
                case Command(line) if line.startswith("octarm up"):
                    reader.start_stack(line)
                case Command(line) if line.endswith("&"):
                    reader.start(line)
                case Command("octarm arms list" as line):
                    reader.look_until_online(line, "cheap", "dear")
                case Command(line):
                    reader.run(line)
        tasks = json.loads(reader.run("octarm tasks list --json"))

    arms = {task["task"]["goal"]: task["arm_id"] for task in tasks}
    assert arms == {
        "Good morning": "cheap",
        "Good morning, now!": "cheap",
        "Good evening, now!": "dear",
    }
    assert "is well" in reader.said["octarm policy validate urgent.star"]
    assert "2 recorded tasks" in reader.said["octarm policy simulate urgent.star --since 1h"]
    assert "the scheduler's own policy decides" in reader.said["octarm policy rollback"]
    assert (tmp_path / "copy.star").read_text() == (tmp_path / "urgent.star").read_text()
