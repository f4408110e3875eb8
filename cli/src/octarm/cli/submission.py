"""Build a task submission from a file and command-line options."""

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from octarm.models.errors import InvalidRequest

BUDGET_PANEL: Final = "Budget"
_DURATION: Final = re.compile(r"\+?(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _option(*names: str, text: str, panel: str | None = None, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The options that `submit` and `run` share."""

    file: Annotated[
        str | None,
        _option(
            "--file", "-f", metavar="FILE", text="A task as a JSON object; options override it."
        ),
    ] = None
    arm: Annotated[str | None, _option("--arm", metavar="ARM", text="Pin the task to an arm.")] = (
        None
    )
    needs: Annotated[
        list[str] | None,
        _option("--needs", metavar="TAG", text="A capability the arm must have (repeatable)."),
    ] = None
    parent: Annotated[
        str | None,
        _option(
            "--parent",
            metavar="ID",
            text="The task it is a child of, and whose budget it draws on.",
        ),
    ] = None
    priority: Annotated[
        str | None,
        _option(
            "--priority", metavar="N", text="1 (most urgent) to 10, or critical|high|medium|low."
        ),
    ] = None
    context: Annotated[
        list[str] | None,
        _option(
            "--context",
            "-c",
            metavar="KEY=VALUE",
            text="Input for the arm: KEY=VALUE (JSON or text), KEY=@FILE (its text), "
            "or @FILE (a JSON object). Repeatable.",
        ),
    ] = None
    constraint: Annotated[
        list[str] | None,
        _option("--constraint", metavar="KEY=VALUE", text="A hard constraint (repeatable)."),
    ] = None
    accept: Annotated[
        list[str] | None,
        _option("--accept", metavar="TEXT", text="An acceptance criterion (repeatable)."),
    ] = None
    label: Annotated[
        list[str] | None, _option("--label", metavar="KEY=VALUE", text="A label (repeatable).")
    ] = None
    idempotency_key: Annotated[
        str | None,
        _option("--idempotency-key", metavar="KEY", text="The same key gives the same task again."),
    ] = None
    deadline: Annotated[
        str | None,
        _option("--deadline", metavar="WHEN", text="A time with zone, or from now: 90s, 10m, 2h."),
    ] = None
    not_before: Annotated[
        str | None,
        _option("--not-before", metavar="WHEN", text="Start then: a time with zone, or 10m, 6h."),
    ] = None
    depends_on: Annotated[
        list[str] | None,
        _option("--depends-on", metavar="ID", text="Wait for this task (repeatable)."),
    ] = None
    on_dependency_failure: Annotated[
        str | None,
        _option(
            "--on-dependency-failure",
            metavar="POLICY",
            text="When one of them does not complete: fail, skip or continue.",
        ),
    ] = None
    timeout: Annotated[
        int | None,
        _option("--timeout", metavar="SECONDS", text="Longest time for one attempt."),
    ] = None
    slots: Annotated[
        int | None,
        _option("--slots", metavar="N", text="How many of its arm's slots it takes."),
    ] = None
    budget_tokens: Annotated[
        int | None,
        _option("--budget-tokens", metavar="N", text="Most tokens.", panel=BUDGET_PANEL),
    ] = None
    budget_seconds: Annotated[
        int | None,
        _option("--budget-seconds", metavar="N", text="Most seconds.", panel=BUDGET_PANEL),
    ] = None
    budget_cost: Annotated[
        float | None,
        _option("--budget-cost", metavar="USD", text="Most dollars.", panel=BUDGET_PANEL),
    ] = None
    budget_calls: Annotated[
        int | None,
        _option("--budget-calls", metavar="N", text="Most model calls.", panel=BUDGET_PANEL),
    ] = None
    budget_retries: Annotated[
        int | None,
        _option("--budget-retries", metavar="N", text="Most retries.", panel=BUDGET_PANEL),
    ] = None


def submission(goal: str | None, options: TaskOptions, now: datetime | None = None) -> Any:
    """Put file, options and goal together; the gateway checks the values.

    Raises:
        InvalidRequest: a file cannot be read, or an option is not `key=value`.
    """
    task: dict[str, Any] = _json_object(options.file) if options.file else {}
    if goal is not None:
        task["goal"] = _stdin() if goal == "-" else goal
    if "goal" not in task:
        raise InvalidRequest("no goal given", "Write it after the command, or '-' to read stdin.")
    for key, value in (
        ("assigned_arm", options.arm),
        ("parent_task_id", options.parent),
        ("priority", _priority(options.priority)),
        ("required_capabilities", _tags(options.needs)),
        ("acceptance_criteria", options.accept),
        ("deadline", _deadline(options.deadline, now or datetime.now(UTC))),
        ("not_before", _deadline(options.not_before, now or datetime.now(UTC))),
        ("depends_on", options.depends_on),
        ("on_dependency_failure", options.on_dependency_failure),
        ("timeout_seconds", options.timeout),
        ("slots", options.slots),
        ("idempotency_key", options.idempotency_key),
    ):
        # A zero is wrong, which is for the gateway to say; an empty list was not given.
        if value or value == 0:
            task[key] = value
    for key, more in (
        ("context", _values(options.context or [], "--context")),
        ("constraints", _values(options.constraint or [], "--constraint")),
        ("labels", dict(_pair(text, "--label") for text in options.label or [])),
        ("budget", _budget(options)),
    ):
        if more:
            task[key] = {**task.get(key, {}), **more}
    return task


def _budget(options: TaskOptions) -> dict[str, Any]:
    budget = {
        "max_tokens": options.budget_tokens,
        "max_time_seconds": options.budget_seconds,
        "max_cost_dollars": options.budget_cost,
        "max_llm_calls": options.budget_calls,
        "max_retries": options.budget_retries,
    }
    return {key: value for key, value in budget.items() if value is not None}


def _values(texts: Iterable[str], option: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in texts:
        if text.startswith("@"):
            values |= _json_object(text[1:])
            continue
        key, value = _pair(text, option)
        values[key] = _file_text(value[1:]) if value.startswith("@") else _json_or_text(value)
    return values


def _pair(text: str, option: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InvalidRequest(f"{option} {text!r} is not KEY=VALUE")
    return key, value


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _tags(needs: list[str] | None) -> list[str]:
    return sorted({tag for text in needs or [] for tag in text.split(",") if tag})


def _priority(text: str | None) -> int | str | None:
    return int(text) if text and re.fullmatch(r"-?\d{1,9}", text) else text


def _deadline(text: str | None, now: datetime) -> str | None:
    if text and (found := _DURATION.fullmatch(text)):
        return (now + timedelta(**{_UNITS[found[2]]: min(int(found[1]), 10**6)})).isoformat()
    return text


def _json_object(path: str) -> dict[str, Any]:
    text = _stdin() if path == "-" else _file_text(path)
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"{path} must hold one JSON object")
    return document


def _file_text(path: str) -> str:
    return _decoded(path, lambda: Path(path).read_bytes())


def _stdin() -> str:
    return _decoded("stdin", sys.stdin.buffer.read).rstrip("\n")


def _decoded(name: str, read: Callable[[], bytes]) -> str:
    try:
        return read().decode("utf-8")
    except OSError as error:
        raise InvalidRequest(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name} is not text in UTF-8") from None
