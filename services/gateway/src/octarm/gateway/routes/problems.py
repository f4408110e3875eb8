"""Every refusal as `application/problem+json`."""

from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

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
    if problem.status in (429, 503):
        headers["Retry-After"] = str(problem.retry_after_seconds or 1)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 408 or (problem.status == 413 and _rest_is_large(scope)):
        headers["Connection"] = "close"
    return Response(problem.model_dump_json(exclude_none=True), problem.status, headers, MEDIA_TYPE)


def _rest_is_large(scope: Scope) -> bool:
    declared = dict(scope["headers"]).get(b"content-length", b"")
    return not declared.isdigit() or int(declared) > MAX_DROPPED_BYTES


def install(app: FastAPI) -> None:
    """Answer every exception of the routes as a problem."""

    @app.exception_handler(OctarmError)
    async def named(request: Request, error: OctarmError) -> Response:
        return problem_response(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def not_accepted(request: Request, error: RequestValidationError) -> Response:
        return problem_response(request.scope, bad_parameters(error.errors()))

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        response = problem_response(request.scope, from_status(error.status_code, error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)

    # Starlette raises the exception again after this answer, so its traceback is logged.
    @app.exception_handler(Exception)
    async def bug(request: Request, _: Exception) -> Response:
        return problem_response(request.scope, OctarmError("the gateway failed to answer"))
