"""Health over HTTP: /healthz (progress), /readyz (dependencies), /metrics."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self

from octarm.common.telemetry import metrics
from octarm.models.errors import OctarmError, Unavailable

CHECK_TIMEOUT_S: Final = 2.0
REQUEST_TIMEOUT_S: Final = 5.0
MAX_REQUEST_BYTES: Final = 8192
Check = Callable[[], Awaitable[None]]
_ACCEPT: Final = re.compile(rb"\r\naccept:([^\r\n]*)", re.IGNORECASE)
_REASON: Final = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


async def missing(checks: Mapping[str, Check]) -> dict[str, str]:
    """Run the checks side by side; gives name → reason of those that fail."""

    async def run(check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await check()
        except TimeoutError:
            return f"no answer in {CHECK_TIMEOUT_S:g} s"
        except (OctarmError, OSError) as error:
            return str(error)
        return ""

    reasons = await asyncio.gather(*(run(check) for check in checks.values()))
    return {name: reason for name, reason in zip(checks, reasons, strict=True) if reason}


class HealthServer:
    """A tiny HTTP/1.1 server for probes; answers GET and closes."""

    def __init__(
        self, port: int, *, host: str, live: Callable[[], bool], ready: Mapping[str, Check]
    ) -> None:
        self._port = port
        self._host = host
        self._live = live
        self._ready = ready
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on (chosen by the system when 0 was asked for)."""
        if self._server is None:
            return self._port
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            Unavailable: the port is taken.
        """
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {self._host}:{self._port}: {error.strerror}",
                "Choose another port with OCTARM_HTTP_PORT.",
            ) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, *_ = head.split(b" ", 2)
                status, kind, body = await self._answer(method, path.partition(b"?")[0], head)
                writer.write(
                    f"HTTP/1.1 {status} {_REASON[status]}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError):
            pass
        except asyncio.LimitOverrunError:
            pass
        finally:
            writer.close()

    async def _answer(self, method: bytes, path: bytes, head: bytes) -> tuple[int, str, bytes]:
        if method != b"GET":
            return _problem(405, "only GET")
        if path == b"/metrics":
            body, kind = metrics.negotiated(_accepted(head))
            return 200, kind, body
        if path == b"/healthz":
            if self._live():
                return 200, "application/json", b'{"status":"ok"}'
            return _problem(503, "no progress")
        if path == b"/readyz":
            failed = await missing(self._ready)
            if not failed:
                return 200, "application/json", b'{"status":"ready"}'
            return _problem(503, "; ".join(f"{name}: {why}" for name, why in failed.items()))
        return _problem(404, "try /healthz, /readyz or /metrics")


def _accepted(head: bytes) -> str:
    """Give the header Accept of a request."""
    found = _ACCEPT.search(head)
    return found[1].decode("latin-1") if found else ""


def _problem(status: int, detail: str) -> tuple[int, str, bytes]:
    error = Unavailable(detail, "The named part must answer first.", retry_after_s=1)
    body = error.problem().model_dump(mode="json") | {"status": status}
    return status, "application/problem+json", json.dumps(body).encode()
