"""How refusals of the web framework are said in our words."""

from collections.abc import Sequence
from typing import Any, ClassVar

from octarm.models.errors import InvalidRequest, NotFound, OctarmError, Unparsable, field_errors


class NoSuchRoute(NotFound):
    """The path is none of the API's (404)."""

    default_code = "ROUTE_NOT_FOUND"
    default_hint = "Read /openapi.json for the paths of this API."


class MethodNotAllowed(InvalidRequest):
    """The path exists, not with this method (405)."""

    status: ClassVar[int] = 405
    default_code = "METHOD_NOT_ALLOWED"
    default_hint = "Read /openapi.json for the methods of this path."


class TooSlow(InvalidRequest):
    """The body did not arrive in time (408)."""

    status: ClassVar[int] = 408
    default_code = "REQUEST_TIMEOUT"
    default_hint = "Send the whole body without long pauses."


class HeadTooLarge(InvalidRequest):
    """The head of the request is too large (431)."""

    status: ClassVar[int] = 431
    default_code = "HEADERS_TOO_LARGE"
    default_hint = "Send fewer or shorter headers."


def from_status(status: int, detail: str) -> OctarmError:
    """Say an HTTP status that the framework chose as an error of ours."""
    if status == 404:
        return NoSuchRoute("there is nothing at this path")
    if status == 405:
        return MethodNotAllowed("this path does not take this method")
    return InvalidRequest(detail) if status < 500 else OctarmError(detail)


def bad_parameters(errors: Sequence[Any]) -> InvalidRequest:
    """Say which parameters of path, query or body were refused; a cursor can only be forged."""
    listed = field_errors(list(errors))
    kind = Unparsable if all(error["loc"][-1] == "cursor" for error in errors) else InvalidRequest
    names = ", ".join(error.field for error in listed[:5])
    return kind(f"not accepted: {names}", code="INVALID_PARAMETER", errors=listed)
