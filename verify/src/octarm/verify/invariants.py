"""The invariants by name, and what breaks one."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "I1": "every accepted task has one terminal state in time, and until then an owner",
    "I2": "nothing ends, or leaves traces, that was not accepted",
    "I3": "one result a task, of its terminal attempt, as the arm sent it",
    "I4": "states follow the lifecycle, attempts only grow",
    "I5": "nothing is spent beyond a budget, nothing stays reserved",
    "I6": "a side effect happens once within an attempt",
    "I7": "arms change their status only when something happened to them",
    "I8": "nothing is left over when all work is done",
    "I9": "events are numbered without a gap, with one terminal event a task",
    "I10": "no tenant sees another's ids",
    "I11": "the audit chain is whole",
    "I12": "what was handed in is in the ledger or among the dead letters",
    "H": "what clients saw has one order that a correct system could have had",
}


class Mode(StrEnum):
    """When the check is made."""

    QUIESCENT = "quiescent"
    """All work is done: everything must have ended."""
    LIVE = "live"
    """Work goes on: only what must hold at every instant."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that is broken, with the first of those that break it."""

    invariant: str
    rule: str
    count: int
    examples: tuple[str, ...]
    hint: str
