"""Types of the msgspec twins' fields: the models' rules, as msgspec knows them."""

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Final, Literal

from msgspec import Meta, MsgspecError

from octarm.models.commands import CORRELATION_OR_NONE, TRACEPARENT_PATTERN
from octarm.models.contracts import LABEL_KEY_PATTERN, MAX_LABEL_CHARS
from octarm.models.ids import (
    EVENT_ID_PATTERN,
    NAME_PATTERN,
    SHA256_PATTERN,
    TAG_PATTERN,
    TASK_ID_PATTERN,
    TOKEN_PATTERN,
    is_name,
    is_token,
)
from octarm.models.scalars import MAX_ATTEMPT, MAX_INT, MAX_SLOTS

# What decoding bytes raises that are no message: text that is not UTF-8 and nesting without end
# are no errors of msgspec's own.
NOT_UNDERSTOOD: Final = (MsgspecError, ValueError, RecursionError)


def exact(pattern: str) -> str:
    """Python's `$` lets a line feed pass at the end, `\\Z` does not."""
    return pattern.removesuffix("$") + r"\Z"


TaskId = Annotated[str, Meta(pattern=exact(TASK_ID_PATTERN))]
ArmId = Annotated[str, Meta(pattern=exact(NAME_PATTERN), max_length=63)]
Tenant = Annotated[str, Meta(pattern=exact(NAME_PATTERN), max_length=63)]
Token = Annotated[str, Meta(pattern=exact(TOKEN_PATTERN))]
Sha256 = Annotated[str, Meta(pattern=exact(SHA256_PATTERN))]
EventId = Annotated[str, Meta(pattern=exact(EVENT_ID_PATTERN))]
Tag = Annotated[str, Meta(pattern=exact(TAG_PATTERN), max_length=64)]
TraceParent = Annotated[str, Meta(pattern=exact(TRACEPARENT_PATTERN))]
Labels = Annotated[
    dict[
        Annotated[str, Meta(pattern=exact(LABEL_KEY_PATTERN))],
        Annotated[str, Meta(pattern=r"^[^\x00]*\Z", max_length=MAX_LABEL_CHARS)],
    ],
    Meta(max_length=20),
]
Correlation = Annotated[str, Meta(pattern=exact(CORRELATION_OR_NONE))]
Attempt = Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
Slots = Annotated[int, Meta(ge=1, le=MAX_SLOTS)]
Aware = Annotated[datetime, Meta(tz=True)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Text = Annotated[str, Meta(max_length=1000)]
LongText = Annotated[str, Meta(max_length=4000)]
LongTexts = Annotated[list[LongText], Meta(max_length=1000)]
# Looked up in a table; a pattern costs more than the rest of a small message.
Status = Literal["success", "failure", "partial"]


@lru_cache(1024)
def check_names(arm_id: str, instance_id: str) -> None:
    """Check the names of an arm and its instance, for a fraction of what two patterns cost.

    The same ones come again and again. Bound their length before: what is remembered stays.

    Raises:
        ValueError: one of them is no name.
    """
    if not (is_name(arm_id) and is_token(instance_id)):
        raise ValueError("arm_id or instance_id is no name")
