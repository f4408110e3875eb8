"""`octarm tasks cancel`: call a task off with all below it, and see it stop."""

import time
from typing import Annotated, Any, Final

import typer

from octarm.cli.command import Session
from octarm.cli.http import Gateway
from octarm.cli.output import print_lines, state_text, table
from octarm.models.errors import TimedOut

POLL_S: Final = 0.3
BAD_ENDS: Final = {"completed", "failed", "timed_out", "rejected"}

Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when all of it has stopped.")]
WaitSeconds = Annotated[
    float, typer.Option("--timeout", min=0, help="Longest time to wait, in seconds.")
]


def call_off(session: Session, path: str, *, reason: str, wait: bool, timeout_s: float) -> None:
    """Cancel the task at `path` and say what became of it and of the tasks below it.

    Raises:
        TimedOut: not all of it had stopped after `timeout_s` seconds.
    """
    with session.gateway() as gateway:
        answer = _cancel(gateway, path, reason)
        until = time.monotonic() + timeout_s
        while wait and (left := _stopping(answer)):
            if time.monotonic() > until:
                raise TimedOut(
                    f"{left} tasks had not stopped after {timeout_s:g} s",
                    "They go on being stopped: `octarm tasks get` says how each ended.",
                )
            time.sleep(POLL_S)
            # Cancelling twice is cancelling once, and the answer shows all of it.
            answer = _cancel(gateway, path, reason)
    if not session.answer(answer):
        _show(answer, path.rpartition("/")[2])


def _cancel(gateway: Gateway, path: str, reason: str) -> dict[str, Any]:
    answer: dict[str, Any] = gateway.post(f"{path}/cancel", {"reason": reason})
    return answer


def _stopping(answer: dict[str, Any]) -> int:
    tasks = [answer, *answer.get("subtree", [])]
    return sum(1 for task in tasks if task.get("cancelling_since"))


def _show(answer: dict[str, Any], task_id: str) -> None:
    print_lines(f"{task_id} {what_became(answer)}")
    below = answer.get("subtree") or []
    if below:
        rows = [
            (
                task["task_id"],
                state_text(task["state"]),
                task.get("arm_id") or "",
                proof_text(task),
            )
            for task in below
        ]
        table(("below it", "state", "arm", "*proof"), rows)


def what_became(task: dict[str, Any]) -> str:
    """Where a cancelled task stands, in one line."""
    state = str(task["state"])
    if state in BAD_ENDS:
        return f"had already ended: {state}"
    said = proof_text(task)
    return f"{state}, {said}" if said else state


def proof_text(task: dict[str, Any]) -> str:
    """What shows that a task's work has stopped, or since when it is being stopped."""
    if since := task.get("cancelling_since"):
        return f"cancelling since {since}"
    return str(task.get("proof") or "").replace("_", " ")
