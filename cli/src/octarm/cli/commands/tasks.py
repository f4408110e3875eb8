"""`octarm tasks …`: list, get, cancel, watch, explain."""

import time
from typing import Annotated, Any

import typer

from octarm.cli.command import Session, command, sub_app
from octarm.cli.commands.cancel import Reason, Wait, WaitSeconds, call_off, proof_text
from octarm.cli.describe import age, ahead, budget_pairs, guess, lasted, score_lines, short_time
from octarm.cli.follow import ended_badly, follow, print_result, result_of
from octarm.cli.http import Gateway
from octarm.cli.output import note, pairs, print_json, print_lines, state_text, stdout, table
from octarm.cli.text import shorten
from octarm.models.errors import InvalidRequest, OctarmError
from octarm.models.ids import is_task_id

TaskId = Annotated[str, typer.Argument(metavar="ID", help="A task's id.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Most tasks.")]
PAGE = 200
POLL_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = sub_app("See and cancel tasks.")
    app.add_typer(group, name="tasks")
    command(
        group,
        "list",
        examples=(
            "octarm tasks list --state running",
            "octarm tasks list --label team=search -n 500 --json",
        ),
    )(list_tasks)
    command(group, "get", examples=("octarm tasks get tsk_01…", "octarm tasks get tsk_01… --json"))(
        get
    )
    command(
        group,
        "cancel",
        examples=(
            'octarm tasks cancel tsk_01… --reason "no longer needed"',
            "octarm tasks cancel tsk_01… --wait --json",
        ),
    )(cancel)
    command(
        group,
        "watch",
        examples=("octarm tasks watch tsk_01…", "octarm tasks watch --all --json"),
    )(watch)
    command(group, "explain", examples=("octarm tasks explain tsk_01…",))(explain)


def list_tasks(
    session: Session,
    state: Annotated[str, typer.Option("--state", help="Only tasks in this state.")] = "",
    arm: Annotated[str, typer.Option("--arm", help="Only tasks of this arm.")] = "",
    label: Annotated[str, typer.Option("--label", help="Only with this KEY or KEY=VALUE.")] = "",
    limit: Limit = 50,
) -> None:
    """List tasks, newest first."""
    with session.gateway() as gateway:
        tasks = _pages(gateway, limit, state=state, arm=arm, label=label)
    if not session.answer(tasks):
        _task_table(tasks)


def get(session: Session, task_id: TaskId) -> None:
    """Show one task, its attempts and its result."""
    path = task_path(task_id)
    with session.gateway() as gateway:
        task = gateway.get(path)
        ended = task.get("terminal_at") is not None
        result = result_of(_result(gateway, task_id)) if ended else None
    if session.answer({**task, "result": result}):
        return
    _show_task(task)
    if result:
        print_result(result)


def cancel(
    session: Session,
    task_id: TaskId,
    reason: Reason = "",
    *,
    wait: Wait = False,
    timeout: WaitSeconds = 60.0,
) -> None:
    """Cancel a task and all open tasks below it; doing it twice is doing it once."""
    call_off(session, task_path(task_id), reason=reason, wait=wait, timeout_s=timeout)


def watch(
    session: Session,
    task_id: Annotated[str, typer.Argument(metavar="ID", help="A task's id.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Watch all tasks.")] = False,
) -> None:
    """Show what happens to one task until it ends, or to all until Ctrl-C."""
    if bool(task_id) == everything:
        raise InvalidRequest("give one task id, or --all")
    if task_id:
        task_path(task_id)
    with session.gateway() as gateway:
        if everything:
            _watch_all(session, gateway)
            return
        end = follow(session, gateway, task_id, chunks=False)
    if not end.kind.endswith("completed"):
        raise ended_badly(end)
    if not session.json:
        print_lines("completed")


def explain(session: Session, task_id: TaskId) -> None:
    """Say why a task went where it went, or what it waits for."""
    path = task_path(task_id)
    with session.gateway() as gateway:
        answer = gateway.get(f"{path}/explain")
    if session.answer(answer):
        return
    waiting = answer.get("waiting") if isinstance(answer.get("waiting"), dict) else {}
    # What placed an earlier attempt does not say what this one waits for.
    why = {**answer, **({"policy": "", "reason": ""} | waiting if waiting else {})}
    pairs(
        [
            ("task", task_id),
            ("state", state_text(str(why["state"])) if why.get("state") else None),
            ("ahead of it", ahead(why.get("position"))),
            ("waits" if waiting else "placed", why.get("reason")),
            ("policy", why.get("policy") or None),
            ("starts", guess(why.get("starts_in_s"))),
        ]
    )
    for name, reason in (why.get("arms") or {}).items():
        print_lines(f"  {name}: {reason.removeprefix(f'{name} ')}")
    if not waiting:
        for line in score_lines(why.get("attempts") or []):
            print_lines(line)
    _attempt_table(why.get("attempts") or [])


def task_path(task_id: str) -> str:
    """The path of a task's resource.

    Raises:
        InvalidRequest: it is no task id, so it must not become part of a path.
    """
    if not is_task_id(task_id):
        raise InvalidRequest(
            f"{task_id!r} is not a task id", "Task ids look like tsk_ and 26 characters."
        )
    return f"/v1/tasks/{task_id}"


def _pages(gateway: Gateway, limit: int, **filters: str) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = []
    cursor = ""
    while len(tasks) < limit:
        page = gateway.get(
            "/v1/tasks", cursor=cursor, limit=min(PAGE, limit - len(tasks)), **filters
        )
        tasks += page["tasks"]
        cursor = page.get("cursor") or ""
        if not cursor:
            break
    return tasks


def _result(gateway: Gateway, task_id: str) -> Any:
    """The result, or None: a task that was cancelled may have none."""
    try:
        return gateway.get(f"/v1/tasks/{task_id}/result")
    except OctarmError as error:
        if error.category in {"not_found", "conflict"}:
            return None
        raise


def _task_table(tasks: list[dict[str, Any]]) -> None:
    if not tasks:
        note("no tasks")
        return
    wide = not stdout().is_terminal
    rows = [
        (
            task["task_id"],
            state_text(task["state"]),
            task.get("arm_id") or "",
            task.get("attempt", 0),
            task["task"].get("priority", ""),
            age(task.get("created_at")),
            shorten(str(task["task"].get("goal", "")), 500 if wide else 80),
        )
        for task in tasks
    ]
    table(("task", "state", "arm", ">try", ">prio", ">age", "*goal"), rows)


def _show_task(task: dict[str, Any]) -> None:
    contract = task.get("task") or {}
    error = task.get("error") or {}
    pairs(
        [
            ("task", task["task_id"]),
            ("state", state_text(task["state"])),
            ("arm", task.get("arm_id")),
            ("goal", shorten(str(contract.get("goal", "")), 400)),
            ("priority", contract.get("priority")),
            ("needs", ", ".join(contract.get("required_capabilities") or [])),
            ("labels", " ".join(f"{k}={v}" for k, v in (contract.get("labels") or {}).items())),
            ("created", task.get("created_at")),
            ("ended", task.get("terminal_at")),
            ("not before", task.get("not_before")),
            ("waits for", task.get("waits_for")),
            ("cancelling since", task.get("cancelling_since")),
            ("proof", str(task.get("proof") or "").replace("_", " ") or None),
            ("tokens", task.get("tokens_used") or None),
            ("cost", task.get("cost_dollars") or None),
            *budget_pairs(task.get("budget")),
            ("error", error.get("detail")),
            ("trace", _trace_id(task.get("traceparent", ""))),
        ]
    )
    _attempt_table(task.get("attempts") or [])


def _attempt_table(attempts: list[dict[str, Any]]) -> None:
    if not attempts:
        return
    rows = [
        (
            attempt.get("attempt"),
            attempt.get("arm_id") or "",
            attempt.get("instance_id") or "",
            short_time(attempt.get("started_at") or attempt.get("placed_at")),
            lasted(attempt.get("started_at"), attempt.get("ended_at")),
            state_text(attempt.get("outcome") or "open"),
            shorten(_how(attempt), 200),
        )
        for attempt in attempts
    ]
    table((">try", "arm", "instance", "began", ">took", "outcome", "*reason"), rows)


def _how(attempt: dict[str, Any]) -> str:
    """Why an attempt ended as it did, or went where it went; and what proves a cancelled one."""
    reason = str(attempt.get("reason") or _why(attempt))
    proof = proof_text(attempt)
    return f"{reason} ({proof})" if proof else reason


def _why(attempt: dict[str, Any]) -> str:
    decision = attempt.get("decision") or {}
    return str(decision.get("reason", ""))


def _trace_id(traceparent: str) -> str:
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


def _watch_all(session: Session, gateway: Gateway) -> None:
    """Print each change of a task's state; newest tasks only, by asking once a second."""
    seen: dict[str, tuple[str, int]] = {}
    try:
        while True:
            for task in reversed(_pages(gateway, PAGE)):
                now = (task["state"], task.get("attempt", 0))
                if seen.get(task["task_id"]) != now:
                    seen[task["task_id"]] = now
                    _say_change(session, task)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return


def _say_change(session: Session, task: dict[str, Any]) -> None:
    if session.json:
        print_json(task)
        return
    goal = shorten(str(task["task"].get("goal", "")), 60)
    where = f" on {task['arm_id']}" if task.get("arm_id") else ""
    print_lines(f"{task['task_id']} {task['state']}{where} (attempt {task['attempt']}) {goal}")
