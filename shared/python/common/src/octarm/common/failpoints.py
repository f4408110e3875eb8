"""Failpoints: lines at which a test makes a process die, stop, stall or fail.

A name says what has just happened there. `OCTARM_FAILPOINT` holds what is to happen, such as
`relay_before_delete:exit`, `results_before_commit:exit@3` (the third time), `ready_received:pause`;
several are separated by commas. `@FOLDER` looks, each time that a line is reached, for the file
`FOLDER/<process>.<name>` that holds the action, and removes it as it acts: so a running process
can be made to fail once, and not again after its restart. Unset, `failpoint` is an empty function.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from octarm.models.errors import OctarmError

VARIABLE: Final = "OCTARM_FAILPOINT"
Name = Literal[
    "submit_received",
    "accept_before_commit",
    "accept_after_commit",
    "submit_before_reply",
    "gateway_before_reply",
    "intake_received",
    "intake_before_ack",
    "relay_before_publish",
    "puback_before_use",
    "relay_before_delete",
    "shard_fenced",
    "shard_taken_over",
    "ready_received",
    "dispatch_before_ack",
    "placements_held",
    "run_received",
    "arm_running",
    "spend_booked",
    "results_before_commit",
    "results_before_ack",
    "cancel_after_commit",
    "reject_after_commit",
    "reconcile_after_commit",
    "dlq_before_term",
    "registration_before_reply",
    "memory_before_ack",
    "episode_in_front",
    "episode_in_stream",
    "episode_before_commit",
    "episode_before_ack",
]
NAMES: Final[frozenset[str]] = frozenset(get_args(Name))


class FailpointHit(RuntimeError):
    """What the action `raise` raises."""


class Hits(Protocol):
    """What a line calls; the name is checked by the type checker."""

    def __call__(self, name: Name) -> None:
        """Reach the line."""


@dataclass(frozen=True, slots=True)
class Action:
    """What happens at the `at_hit`-th time, and never before or after."""

    act: Callable[[], None]
    at_hit: int = 1


def parse_action(text: str) -> Action:
    """Read `exit` (kill -9), `pause` (SIGSTOP), `raise` or `sleep=2`, each with `@3` or without.

    Raises:
        OctarmError: it is none of these.
    """
    what, _, number = text.strip().partition("@")
    kind, _, seconds = what.partition("=")
    try:
        at_hit = int(number or 1)
        if kind == "sleep":
            return Action(lambda pause_s=float(seconds): time.sleep(pause_s), at_hit)  # type: ignore[misc]
        if not seconds:
            return Action(_ACTS[kind], at_hit)
    except (KeyError, ValueError):
        pass
    raise OctarmError(
        f"{VARIABLE}: {text!r} is no action; there are exit, pause, raise and sleep=SECONDS, "
        "each with @HIT or without"
    )


def _exit() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _pause() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise() -> None:
    raise FailpointHit("a failpoint raised this")


_ACTS: Final = {"exit": _exit, "pause": _pause, "raise": _raise}


class ByName:
    """The actions that the variable spells out."""

    def __init__(self, spec: str) -> None:
        """
        Raises:
            OctarmError: a name or an action is unknown.
        """
        self._actions: dict[str, Action] = {}
        for part in spec.split(","):
            name, _, action = part.strip().partition(":")
            if name not in NAMES:
                known = ", ".join(sorted(NAMES))
                raise OctarmError(f"{VARIABLE}: there is no failpoint {name!r}; there are {known}")
            self._actions[name] = parse_action(action)
        self._hits: Counter[str] = Counter()

    def __call__(self, name: Name) -> None:
        """Act if this is the time."""
        action = self._actions.get(name)
        if action is None:
            return
        self._hits[name] += 1
        if self._hits[name] == action.at_hit:
            _say(name)
            action.act()


class InFolder:
    """The actions that files tell, each once; hits count from when the file came."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hits: Counter[str] = Counter()

    def __call__(self, name: Name) -> None:
        """Act if there is a file and this is the time."""
        path = self._folder / f"{_process}.{name}"
        try:
            action = parse_action(path.read_text(encoding="utf-8"))
        except OSError:
            self._hits.pop(name, None)
            return
        self._hits[name] += 1
        if self._hits[name] < action.at_hit:
            return
        del self._hits[name]
        try:
            path.unlink()
        except FileNotFoundError:
            return  # A replica was faster.
        _say(name)
        action.act()


def _say(name: str) -> None:
    sys.stderr.write(f"octarm-{_process}: failpoint {name}\n")
    sys.stderr.flush()


def _off(name: Name) -> None:
    """Do nothing: the process was started without failpoints."""


def _chosen(spec: str) -> tuple[Hits, OctarmError | None]:
    try:
        if spec.startswith("@"):
            return InFolder(Path(spec[1:])), None
        return (ByName(spec) if spec else _off), None
    except OctarmError as error:
        return _off, error


_process = "process"
failpoint, _refusal = _chosen(os.environ.get(VARIABLE, ""))


def begin(process: str) -> None:
    """Say which process this is, at its start.

    Raises:
        OctarmError: the variable names what does not exist.
    """
    global _process
    _process = process
    if _refusal is not None:
        raise _refusal
