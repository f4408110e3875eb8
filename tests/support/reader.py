"""Somebody who follows a guide word for word."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

    def agree(self, line: str) -> str:
        """Run a command in a terminal, and say yes to what it asks; it must succeed."""
        person, terminal = pty.openpty()
        try:
            os.write(person, b"y\n")
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=self.folder,
                env=self._env,
                stdin=terminal,
                capture_output=True,
                text=True,
                timeout=COMMAND_S,
                check=False,
            )
        finally:
            os.close(terminal)
            os.close(person)
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
