"""A task's events as a stream that resumes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Send

from octarm.common.telemetry import metrics
from octarm.gateway.domain import headers
from octarm.gateway.domain.load import Load
from octarm.gateway.routes import openapi
from octarm.gateway.routes.caller import FromCaller
from octarm.gateway.routes.tasks import TaskPath
from octarm.gateway.usecases.follow import Frame, Ping, WatchTask
from octarm.gateway.usecases.ports import PassingChunk, StoredEvent

# A reader that takes nothing for this long has gone without saying so.
SEND_TIMEOUT_S: Final = 30.0
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")


class EventStream(StreamingResponse):
    """Server-sent events; however it ends, its generator is closed before it returns."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], load: Load) -> None:
        super().__init__(frames, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._frames = frames
        self._load = load

    async def stream_response(self, send: Send) -> None:
        """Send frames until they end or the client is gone."""
        with self._load.stream():
            await self._send_frames(send)

    async def _send_frames(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        metrics.inc("octarm_gateway_streams", 1)
        try:
            async with aclosing(self._frames) as frames:
                await send({"type": "http.response.start", **start})
                async for frame in frames:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            pass
        finally:
            metrics.inc("octarm_gateway_streams", -1)


def event_routes(watch: WatchTask, load: Load) -> APIRouter:
    """The route of a task's event stream."""
    router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

    @router.get("/{task_id}/events", responses=openapi.EVENT_STREAM, response_class=Response)
    async def follow_task(
        task_id: TaskPath,
        caller: FromCaller,
        request: Request,
        last_event_id: Annotated[str | None, Header(description="Resume after this id")] = None,
    ) -> Response:
        """Follow a task by server-sent events, from its first to its terminal one.

        Each event's id is its place in the stream, so a client that reconnects with Last-Event-ID
        misses none. Output chunks come in between without an id and may be lost. 204: there
        is nothing (more) to tell.
        """
        if (refusal := load.no_stream()) is not None:
            raise refusal
        after = headers.last_event_id(request.headers.getlist("last-event-id"))
        since = await watch.begins(caller.tenant, task_id, after=after)
        if since is None:
            return Response(status_code=204)
        frames = watch(caller.tenant, task_id, after=after, since=since)
        return EventStream(_encoded(frames), load)

    return router


async def _encoded(frames: AsyncGenerator[Frame, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(frames):
        yield b": octarm\n\n"
        async for frame in frames:
            yield encode(frame)


def encode(frame: Frame) -> bytes:
    """Write a frame in the format of the WHATWG's server-sent events."""
    if isinstance(frame, StoredEvent):
        head = f"id: {frame.place}\nevent: task.{frame.verb}\n"
        return head.encode() + _data(frame.body)
    if isinstance(frame, PassingChunk):
        return b"event: chunk\n" + _data(frame.body)
    return b": ping\n\n" if isinstance(frame, Ping) else b": closing, resume\n\n"


def _data(json_text: bytes) -> bytes:
    # In JSON a line break can only stand between tokens, where a blank says the same.
    return b"data: " + json_text.translate(_ONE_LINE) + b"\n\n"
