"""Every refusal as `application/problem+json`."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from octarm.gateway.domain.problems import bad_parameters, from_status
from octarm.gateway.routes.caller import caller_of
from octarm.models.errors import OctarmError, Unauthenticated

MEDIA_TYPE: Final = "application/problem+json"
# Beyond what was declared up to here a body is read and dropped, so that its sender gets to
# see the answer; a larger one costs it the connection.
MAX_DROPPED_BYTES: Final = 16 * 1024 * 1024


def problem_response(scope: Scope, error: OctarmError) -> Response:
    """Say an error to the one who asked."""
    problem = error.problem(
        correlation_id=caller_of(scope).correlation_id, instance=scope["path"][:300]
    )
    headers = {}
    if problem.status in (429, 503, 504):
        headers["Retry-After"] = str(problem.retry_after_seconds or 1)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 408 or (problem.status == 413 and _rest_is_large(scope)):
        headers["Connection"] = "close"
    return Response(problem.model_dump_json(exclude_none=True), problem.status, headers, MEDIA_TYPE)


def _rest_is_large(scope: Scope) -> bool:
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return not declared.isdigit() or int(declared) > MAX_DROPPED_BYTES


async def _named(request: Request, error: Exception) -> Response:
    return problem_response(request.scope, cast(OctarmError, error))


async def _not_accepted(request: Request, error: Exception) -> Response:
    refused = bad_parameters(cast(RequestValidationError, error).errors())
    return problem_response(request.scope, refused)


async def _framework(request: Request, error: Exception) -> Response:
    said = cast(HTTPException, error)
    response = problem_response(request.scope, from_status(said.status_code, said.detail))
    response.headers.update(said.headers or {})
    return response


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)


async def _bug(request: Request, _: Exception) -> Response:
    # Starlette raises the exception again after this answer, so its traceback is logged.
    return problem_response(request.scope, OctarmError("the gateway failed to answer"))


# Every exception of a route becomes a problem.
HANDLERS: Final[dict[Any, Any]] = {
    OctarmError: _named,
    RequestValidationError: _not_accepted,
    HTTPException: _framework,
    ClientDisconnect: _gone,
    Exception: _bug,
}


def answering(endpoint: Callable[[Request], Awaitable[Response]], path: str) -> ASGIApp:
    """Make an application of one endpoint, with the same answers to its exceptions.

    For the busiest endpoint: the way through a framework takes as long as all that it does.
    """
    route = Route(path, endpoint)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = route
        try:
            response = await endpoint(Request(scope, receive))
        except OctarmError as error:
            response = problem_response(scope, error)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    return ServerErrorMiddleware(app, _bug)
