"""A task's events over SSE, resumed with Last-Event-ID when the connection breaks."""

import json
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from httpx_sse import EventSource, SSEError

from octarm.cli.http import Gateway, error_of
from octarm.models.errors import Unavailable
from octarm.models.events import TERMINAL_VERBS

GIVE_UP_AFTER: Final = 8
READ_TIMEOUT_S: Final = 60.0
QUIET_S: Final = 3.0
_AGAIN: Final = {429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: `task.<verb>` or `chunk`, with its data."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended with this event."""
        return self.kind.removeprefix("task.") in TERMINAL_VERBS


def task_events(gateway: Gateway, task_id: str) -> Generator[StreamEvent, None, None]:
    """Yield a task's events from its first to its terminal one, whatever happens between.

    Raises:
        NotFound: there is no such task.
        Unavailable: the stream broke and could not be opened again.
    """
    last_id, broken = "", 0
    while True:
        try:
            for event_id, event in _connection(gateway, task_id, last_id):
                last_id, broken = event_id or last_id, 0
                yield event
                if event.is_terminal:
                    return
        except _NothingMore:
            if (end := _end_of(gateway, task_id)).is_terminal:
                yield end
                return
        except (httpx.HTTPError, SSEError, _Refused) as error:
            if broken >= GIVE_UP_AFTER:
                raise Unavailable(f"the event stream of {task_id} broke: {error}") from None
        broken += 1
        if broken > GIVE_UP_AFTER:
            raise Unavailable(f"the event stream of {task_id} ends before the task does")
        time.sleep(min(5.0, 0.1 * 2**broken))


def events_so_far(gateway: Gateway, task_id: str) -> list[StreamEvent]:
    """Give the events that there are now; of a task that goes on, until none comes for a while.

    Raises:
        NotFound: there is no such task.
        Unavailable: the stream broke.
    """
    found: list[StreamEvent] = []
    give_up_at = time.monotonic() + READ_TIMEOUT_S
    try:
        for _, event in _connection(gateway, task_id, "", timeout_s=QUIET_S):
            found.append(event)
            if event.is_terminal or time.monotonic() > give_up_at:
                break
    except (_NothingMore, httpx.ReadTimeout):
        return found
    except (httpx.HTTPError, SSEError, _Refused) as error:
        raise Unavailable(f"the event stream of {task_id} broke: {error}") from None
    return found


class _Refused(Exception):
    """The server cannot serve the stream at the moment."""


class _NothingMore(Exception):
    """The server has no events of this task (any more)."""


def _end_of(gateway: Gateway, task_id: str) -> StreamEvent:
    """Where a task stands, as the event that it came from: events are kept for days only."""
    outcome = gateway.get(f"/v1/tasks/{task_id}/result")
    return StreamEvent(f"task.{outcome['state']}", outcome)


def _connection(
    gateway: Gateway, task_id: str, last_id: str, *, timeout_s: float = READ_TIMEOUT_S
) -> Iterator[tuple[str, StreamEvent]]:
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
    timeout = httpx.Timeout(timeout_s, connect=5.0)
    path = f"/v1/tasks/{task_id}/events"
    with gateway.client.stream("GET", path, headers=headers, timeout=timeout) as response:
        if response.status_code == 204:
            raise _NothingMore
        if response.status_code != 200:
            response.read()
            if response.status_code in _AGAIN:
                raise _Refused(error_of(response).message)
            raise error_of(response)
        for event in EventSource(response).iter_sse():
            if found := _read(event.event, event.data):
                yield event.id, found


def _read(kind: str, text: str) -> StreamEvent | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    return StreamEvent(kind if kind not in {"", "message"} else str(data.get("type", "")), data)
