"""Errors: one tree of exceptions, one envelope on every wire (RFC 9457 problem details).

Each code belongs to one category; the category fixes the HTTP status, whether a retry can
help, and the exit code of the command line (0 ok, 1 API or task error, 2 authentication,
3 usage).
"""

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Category = Literal[
    "validation",
    "authentication",
    "authorization",
    "not_found",
    "conflict",
    "budget",
    "backpressure",
    "timeout",
    "unavailable",
    "internal",
    "task",
]

ErrorCode = Annotated[str, Field(pattern=r"^[A-Z_]+$", max_length=64)]


class FieldError(BaseModel):
    """One field that was refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    field: str = Field(description="Path of the field, dots between its parts")
    message: str


class Problem(BaseModel):
    """What went wrong, said the same way in HTTP bodies, replies and results."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str = Field(default="about:blank", description="URI reference of the kind of problem")
    title: str = Field(max_length=200)
    status: int = Field(ge=100, le=599, description="HTTP status code")
    detail: str = Field(default="", max_length=4000)
    instance: str = Field(default="", description="URI reference of this occurrence")
    code: ErrorCode
    category: Category
    retryable: bool = False
    retry_after_seconds: int | None = Field(default=None, ge=1, description="Seconds")
    recovery_hint: str = Field(default="", max_length=1000)
    correlation_id: str = ""
    errors: list[FieldError] | None = Field(default=None, max_length=100)


class OctarmError(Exception):
    """Something that Octarm can name; subclasses fix the category and a default code."""

    category: ClassVar[Category] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = True
    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "INTERNAL"
    default_hint: ClassVar[str] = "Try again; if it persists, look at the service's log."

    def __init__(
        self,
        message: str,
        recovery_hint: str = "",
        code: str = "",
        *,
        retry_after_s: int | None = None,
        errors: list[FieldError] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.recovery_hint = recovery_hint or self.default_hint
        self.code = code or self.default_code
        self.retry_after_s = retry_after_s
        self.errors = errors

    def problem(self, *, correlation_id: str = "", instance: str = "") -> Problem:
        """Say it as a problem document."""
        return Problem(
            title=self.code.replace("_", " ").capitalize(),
            status=self.status,
            detail=self.message[:4000],
            instance=instance,
            code=self.code,
            category=self.category,
            retryable=self.retryable,
            retry_after_seconds=self.retry_after_s,
            recovery_hint=self.recovery_hint[:1000],
            correlation_id=correlation_id,
            errors=self.errors[:100] if self.errors else None,
        )


class InvalidRequest(OctarmError):
    """The request breaks its contract (422)."""

    category, status, retryable, exit_code = "validation", 422, False, 3
    default_code = "INVALID_REQUEST"
    default_hint = "Correct the named fields and send it again."


class Unparsable(InvalidRequest):
    """The body is not JSON as we accept it (400)."""

    status = 400
    default_hint = "Send one JSON document in UTF-8, without duplicate keys, NaN or Infinity."


class PayloadTooLarge(InvalidRequest):
    """The body is larger than the limit (413)."""

    status = 413
    default_code = "PAYLOAD_TOO_LARGE"
    default_hint = "Send less, or pass large input by reference (dataref)."


class Unauthenticated(OctarmError):
    """No credential, or one that is not accepted (401)."""

    category, status, retryable, exit_code = "authentication", 401, False, 2
    default_code = "INVALID_TOKEN"
    default_hint = "Send a valid API key as 'Authorization: Bearer …' or 'X-API-Key'."


class Forbidden(OctarmError):
    """The credential does not permit this (403)."""

    category, status, retryable, exit_code = "authorization", 403, False, 2
    default_code = "FORBIDDEN"
    default_hint = "Ask the operator for this permission."


class NotFound(OctarmError):
    """No such thing for this tenant (404)."""

    category, status, retryable = "not_found", 404, False
    default_code = "TASK_NOT_FOUND"
    default_hint = "Check the id and the tenant of your credential."


class Conflict(OctarmError):
    """It contradicts what is already there (409)."""

    category, status, retryable = "conflict", 409, False
    default_code = "ALREADY_EXISTS"
    default_hint = "Read the present state, then decide."


class BudgetExceeded(OctarmError):
    """The grant does not cover it (402)."""

    category, status, retryable = "budget", 402, False
    default_code = "BUDGET_EXCEEDED"
    default_hint = "Raise the budget or ask for less."


class Backpressure(OctarmError):
    """More than can be taken at the moment (429)."""

    category, status = "backpressure", 429
    default_code = "ADMISSION_REJECTED"
    default_hint = "Wait for Retry-After seconds, then send it again."


class TimedOut(OctarmError):
    """It took longer than allowed (504)."""

    category, status = "timeout", 504
    default_code = "DEADLINE_EXCEEDED"
    default_hint = "Allow more time or ask for less."


class Unavailable(OctarmError):
    """A part that is needed does not answer now (503)."""

    category, status = "unavailable", 503
    default_code = "SERVICE_UNAVAILABLE"
    default_hint = "Try again after a moment; /readyz names what is missing."


class TaskFailed(OctarmError):
    """A task ended without success; the code says how."""

    category, status, retryable = "task", 200, False
    default_code = "RETRIES_EXHAUSTED"
    default_hint = "Read the attempts of the task for the reason of each."


_BY_CATEGORY: Final[dict[str, type[OctarmError]]] = {
    kind.category: kind
    for kind in (
        InvalidRequest,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        BudgetExceeded,
        Backpressure,
        TimedOut,
        Unavailable,
        TaskFailed,
        OctarmError,
    )
}
_BY_STATUS: Final[dict[int, type[OctarmError]]] = {400: Unparsable, 413: PayloadTooLarge}


def from_problem(problem: Problem) -> OctarmError:
    """Rebuild the exception that a problem document stands for."""
    kind = _BY_STATUS.get(problem.status, _BY_CATEGORY[problem.category])
    return kind(
        problem.detail or problem.title,
        problem.recovery_hint,
        problem.code,
        retry_after_s=problem.retry_after_seconds,
        errors=problem.errors,
    )


def field_errors(errors: list[Any]) -> list[FieldError]:
    """Turn pydantic's error list into ours, at most 100, user input left out."""
    return [
        FieldError(field=".".join(str(part) for part in error["loc"]), message=error["msg"][:300])
        for error in errors[:100]
    ]
