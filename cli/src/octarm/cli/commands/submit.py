"""`octarm submit` and `octarm run`."""

import secrets
import sys
import uuid
from typing import Annotated, Any

import typer

from octarm.cli.command import Session, command
from octarm.cli.follow import finish, follow
from octarm.cli.http import Gateway
from octarm.cli.output import note, print_lines
from octarm.cli.submission import TaskOptions, submission
from octarm.models.errors import TaskFailed

GoalArgument = Annotated[
    str | None, typer.Argument(metavar="GOAL", help="What is to be done; '-' reads stdin.")
]
ANSWERS = "answer"
TraceOption = Annotated[
    bool, typer.Option("--trace", help="Record its spans, for 'octarm trace ID'.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(
        app,
        "submit",
        options=TaskOptions,
        examples=(
            'octarm submit "Summarise this" --needs summarise --context text=@notes.md',
            "octarm submit --file task.json --priority high --wait",
            'echo "Say hello" | octarm submit - --arm llm --json',
        ),
    )(submit)
    command(
        app,
        "run",
        options=TaskOptions,
        examples=(
            'octarm run "Why is the sky blue?"',
            'octarm run "Summarise this" --needs summarise -c text=@README.md',
            'octarm run "Count words" --arm executor -c command="wc -w *" --json',
        ),
    )(run)


def submit(
    session: Session,
    options: TaskOptions,
    goal: GoalArgument = None,
    trace: TraceOption = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, print the result.")] = (
        False
    ),
) -> None:
    """Hand in a task and print its id."""
    task = submission(goal, options)
    with session.gateway() as gateway:
        answer = _send(gateway, task, trace)
        if wait:
            _wait(session, gateway, answer["task_id"])
        elif not session.answer(answer):
            print_lines(answer["task_id"])


def run(
    session: Session,
    options: TaskOptions,
    goal: GoalArgument = None,
    trace: TraceOption = False,
) -> None:
    """Hand in a task, show its progress and print its result.

    A goal alone, without --arm, --needs or --file, goes to an arm that can answer it.
    Ctrl-C cancels the task; at the question that follows, 'n' or Ctrl-C leaves it running.
    """
    task = submission(goal, options)
    with session.gateway() as gateway:
        if not (options.arm or options.needs or options.file):
            _for_an_arm_that_answers(gateway, task)
        task_id = _send(gateway, task, trace)["task_id"]
        try:
            _wait(session, gateway, task_id)
        except KeyboardInterrupt:
            _interrupted(gateway, task_id)


def _for_an_arm_that_answers(gateway: Gateway, task: dict[str, Any]) -> None:
    """Without it any arm may get the task, also one that only runs commands."""
    if gateway.get("/v1/arms", capability=[ANSWERS])["arms"]:
        task["required_capabilities"] = [ANSWERS]


def _send(gateway: Gateway, task: dict[str, Any], trace: bool) -> dict[str, Any]:
    # A key of our own makes it safe to send the request again after 429, 503 or a lost answer.
    key = task.get("idempotency_key") or f"cli-{uuid.uuid4()}"
    headers = {"idempotency-key": str(key)}
    if trace:
        headers["traceparent"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    answer: dict[str, Any] = gateway.post("/v1/tasks", task, headers)
    return answer


def _wait(session: Session, gateway: Gateway, task_id: str) -> None:
    if not session.json:
        note(task_id, "dim")
    finish(session, gateway, follow(session, gateway, task_id), task_id)


def _interrupted(gateway: Gateway, task_id: str) -> None:
    if not _shall_cancel(task_id):
        note(f"left running; see it with: octarm tasks watch {task_id}")
        raise TaskFailed(f"{task_id} was left running", "Nothing is wrong.", "CANCELLED")
    gateway.post(f"/v1/tasks/{task_id}/cancel", {"reason": "interrupted at the command line"})
    raise TaskFailed(f"{task_id} was cancelled", "Run it again when you want it.", "CANCELLED")


def _shall_cancel(task_id: str) -> bool:
    """Ask a person; a script's interrupt cancels at once."""
    if not _is_watched():
        return True
    try:
        return typer.confirm(f"\nCancel {task_id}?", default=True, err=True)
    except (KeyboardInterrupt, typer.Abort):
        return False


def _is_watched() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
