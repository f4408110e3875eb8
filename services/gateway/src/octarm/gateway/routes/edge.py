"""The outermost layer: correlation, trace context, credentials, request metrics.

It reads the few headers that are believed; no other header of a client gets past it onto the
bus, least of all `Nats-*` and `KV-*`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octarm.common.telemetry import metrics, tracing
from octarm.gateway.domain import headers
from octarm.gateway.domain.tenants import Tenants
from octarm.gateway.routes.caller import Caller
from octarm.gateway.routes.problems import problem_response
from octarm.models.errors import OctarmError, Unauthenticated, Unavailable

CORRELATION: Final = b"x-correlation-id"
TRACEPARENT: Final = b"traceparent"
AUTHORIZATION: Final = b"authorization"
API_KEY: Final = b"x-api-key"
_READ: Final = frozenset({CORRELATION, TRACEPARENT, AUTHORIZATION, API_KEY})
_GUARDED: Final = "/v1/"
# A server that restarts is waited for, one that is gone is not.
RECONNECT_S: Final = 1.5
RECONNECT_PAUSE_S: Final = 0.05


class Edge:
    """Wraps the application; pure ASGI, so a stream passes through it unbuffered."""

    def __init__(self, app: ASGIApp, tenants: Tenants, connected: Callable[[], bool]) -> None:
        self._app = app
        self._tenants = tenants
        self._connected = connected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = _read(scope)
        caller = Caller(_correlation_id(found), _traceparent(found))
        caller.attach(scope)
        echo = (CORRELATION, caller.correlation_id.encode())
        status, started, answered = 499, time.perf_counter(), 0.0

        async def reply(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                # A stream of events lasts as long as its reader likes; that is no latency.
                status, answered = message["status"], time.perf_counter()
                message["headers"] = [*message["headers"], echo]
            await send(message)

        structlog.contextvars.bind_contextvars(
            correlation_id=caller.correlation_id, traceparent=caller.traceparent
        )
        try:
            refusal = None
            if scope["path"].startswith(_GUARDED):
                refusal = await self._refusal(caller, found)
            app = self._app if refusal is None else problem_response(scope, refusal)
            await app(scope, receive, reply)
        finally:
            structlog.contextvars.unbind_contextvars("correlation_id", "traceparent")
            took_s = (answered or time.perf_counter()) - started
            _measure(scope, status, took_s, caller.traceparent)

    async def _refusal(
        self, caller: Caller, found: Mapping[bytes, list[str]]
    ) -> OctarmError | None:
        """Say why a request of the API goes no further, None when it does."""
        key = headers.credential(found[AUTHORIZATION], found[API_KEY])
        tenant = self._tenants.of(key)
        if tenant is None:
            return Unauthenticated("no credential" if key is None else "the key is not accepted")
        caller.tenant = tenant
        give_up_at = time.monotonic() + RECONNECT_S
        while not self._connected():
            if time.monotonic() > give_up_at:
                return Unavailable("not connected to NATS", retry_after_s=1)
            await asyncio.sleep(RECONNECT_PAUSE_S)
        return None


def _read(scope: Scope) -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = {name: [] for name in _READ}
    for name, value in scope["headers"]:
        if name in _READ:
            found[name].append(value.decode("latin-1"))
    return found


def _correlation_id(found: Mapping[bytes, list[str]]) -> str:
    return headers.correlation_id(found[CORRELATION]) or os.urandom(16).hex()


def _traceparent(found: Mapping[bytes, list[str]]) -> str:
    given = found[TRACEPARENT]
    return given[0] if len(given) == 1 and tracing.valid(given[0]) else tracing.root()


def _measure(scope: Scope, status: int, seconds: float, traceparent: str) -> None:
    route = getattr(scope.get("route"), "path", "none")
    metrics.inc("octarm_gateway_requests_total", route=route, status=str(status))
    metrics.observe("octarm_gateway_request_seconds", seconds, traceparent=traceparent, route=route)
