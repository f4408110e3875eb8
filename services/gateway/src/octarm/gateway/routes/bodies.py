"""Read a request's body: bounded while it arrives, strict once it is there."""

import asyncio
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.types import Scope

from octarm.gateway.domain.problems import TooSlow
from octarm.models import strict_json
from octarm.models.errors import (
    FieldError,
    InvalidRequest,
    PayloadTooLarge,
    Unparsable,
    field_errors,
)

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
MAX_BATCH_VALUES: Final = 100_000
# From here on reading takes long enough to be done beside the loop.
LARGE_BYTES: Final = 64 * 1024
ARRIVAL_S: Final = 30.0
MAX_LISTED: Final = 1000
M = TypeVar("M", bound=BaseModel)


def declared_size(scope: Scope) -> int:
    """Give the most bytes that a request's body may take here."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return min(int(value[:12]), MAX_BATCH_BYTES)
    return MAX_BODY_BYTES


async def read_body(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Read at most `max_bytes`.

    Raises:
        PayloadTooLarge: there are more.
        TooSlow: they take more than `ARRIVAL_S` seconds.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(ARRIVAL_S):
            return await _collect(request, max_bytes)
    except TimeoutError:
        raise TooSlow(f"the body took more than {ARRIVAL_S:g} s to arrive") from None


async def _collect(request: Request, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    async for part in request.stream():
        total += len(part)
        if total > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body may have {max_bytes} bytes")


async def read_large(body: bytes, max_values: int = strict_json.MAX_VALUES) -> dict[str, Any]:
    """Read one JSON object as `read_object` does, a large one in a thread of its own."""
    if len(body) < LARGE_BYTES:
        return read_object(body, max_values)
    return await asyncio.to_thread(read_object, body, max_values)


def read_object(body: bytes, max_values: int = strict_json.MAX_VALUES) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        Unparsable: the bytes are not strict JSON, or something else than an object.
    """
    value = strict_json.loads(body, max_values=max_values)
    if not isinstance(value, dict):
        message = "must be a JSON object"
        raise Unparsable(f"the body {message}", errors=[FieldError(field="", message=message)])
    return value


def read_as(kind: type[M], value: dict[str, Any]) -> M:
    """Hold an object to its contract.

    Raises:
        InvalidRequest: names every field that breaks it; unknown fields do.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


async def read_optional(request: Request, kind: type[M]) -> M:
    """Read a body that may be left out; absent it counts as an empty object."""
    body = await read_body(request)
    return read_as(kind, read_object(body) if body else {})


def invalid(error: ValidationError) -> InvalidRequest:
    """Name the fields; what was in them is not repeated."""
    if error.error_count() > MAX_LISTED:
        # Listing them would take longer than everything else: pydantic gives all or none.
        message = f"{error.error_count()} fields are not accepted"
        return InvalidRequest(message, errors=[FieldError(field="", message=message)])
    errors = field_errors(error.errors(include_url=False, include_input=False))
    names = ", ".join(sorted({item.field for item in errors})[:5])
    code = "INVALID_BUDGET" if names.startswith("budget") else ""
    return InvalidRequest(f"not accepted: {names[:500]}", code=code, errors=errors)
