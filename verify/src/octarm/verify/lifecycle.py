"""Which event of a task may follow which; written down once more, apart from the orchestrator.

A test holds this table to the orchestrator's own table of states.
"""

from typing import Final

TERMINAL: Final = ("completed", "failed", "cancelled", "timed_out", "rejected")
_GIVEN_UP: Final = frozenset({"cancelled", "timed_out", "failed"})
_CALLED_OFF: Final = _GIVEN_UP | {"rejected"}
_UNDER_WAY: Final = frozenset({"progress", "retried"}) | _GIVEN_UP
_STARTED: Final = frozenset({"validated", "completed"}) | _UNDER_WAY

# What only an arm can tell (a start, a completion) is told after what came before it.
FOLLOWERS: Final[dict[str, frozenset[str]]] = {
    "accepted": frozenset({"ready"}) | _CALLED_OFF,
    "ready": frozenset({"placed", "retried"}) | _CALLED_OFF,
    "placed": frozenset({"started"}) | _UNDER_WAY,
    "started": _STARTED,
    "progress": frozenset({"started"}) | _STARTED,
    "validated": frozenset({"completed", "retried"}) | _GIVEN_UP,
    # It waits out its backoff and becomes ready, or is queued again at once.
    "retried": frozenset({"ready", "placed"}) | _CALLED_OFF,
    **{verb: frozenset() for verb in TERMINAL},
}
ASIDE: Final = ("late_result",)
"""Verbs that say nothing about the task's own state and may come at any time."""


def pairs() -> list[tuple[str, str]]:
    """Give every allowed (verb, next verb)."""
    return [(verb, after) for verb, followers in FOLLOWERS.items() for after in sorted(followers)]
