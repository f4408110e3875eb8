"""What a task asks of the model, read from its goal, context and constraints, and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from octarm.llm.schema import OutputSchema
from octarm.models.contracts import TaskContract
from octarm.models.errors import FieldError, InvalidRequest

MAX_OUTPUT_TOKENS: Final = 32_768
MAX_SYSTEM_CHARS: Final = 10_000
DEFAULT_SYSTEM: Final = "You do what you are asked, briefly and to the point."
_OWN: Final = {"output_schema", "system", "temperature", "max_output_tokens"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds for a task that does not say otherwise."""

    max_output_tokens: int = 256
    temperature: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One goal for the model. `rules` are the task's other constraints, one in a line."""

    goal: str
    text: str
    system: str
    rules: str
    temperature: float
    max_output_tokens: int
    schema: OutputSchema | None


def question_of(task: TaskContract, defaults: Defaults) -> Question:
    """Read the question of a task.

    Raises:
        InvalidRequest: a constraint or the text is not of its type or out of its range.
    """
    constraints = task.constraints
    schema = constraints.get("output_schema")
    return Question(
        goal=task.goal,
        text=_text("context.text", task.context.get("text", ""), max_chars=1_000_000),
        system=_text(
            "constraints.system",
            constraints.get("system", DEFAULT_SYSTEM),
            max_chars=MAX_SYSTEM_CHARS,
        ),
        rules=_rules(constraints),
        temperature=_number(
            "constraints.temperature", constraints.get("temperature", defaults.temperature), 0, 2
        ),
        max_output_tokens=int(
            _number(
                "constraints.max_output_tokens",
                constraints.get("max_output_tokens", defaults.max_output_tokens),
                1,
                MAX_OUTPUT_TOKENS,
            )
        ),
        schema=None if schema is None else OutputSchema(schema),
    )


def _rules(constraints: Mapping[str, object]) -> str:
    return "\n".join(
        f"- {name}: {value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in constraints.items()
        if name not in _OWN
    )


def _text(field: str, value: object, *, max_chars: int) -> str:
    if not isinstance(value, str):
        raise _wrong(field, "must be a string")
    if len(value) > max_chars:
        raise _wrong(field, f"is longer than {max_chars} characters")
    return value.encode("utf-8", "replace").decode()


def _number(field: str, value: object, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(field, "must be a number")
    if not least <= value <= most:
        raise _wrong(field, f"must be from {least} to {most}")
    return value


def _wrong(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {message}", errors=[FieldError(field=field, message=message)])
