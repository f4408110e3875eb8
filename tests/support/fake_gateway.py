"""A gateway that answers from memory, for the command line's tests: real HTTP, no bus."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TASK_ID = "tsk_01jd5x2b3c4d5e6f7g8h9jkmnp"
EPISODE_ID = "epi_01jd5x2b3c4d5e6f7g8h9jkmnp"
NOON = "2026-11-21T12:00:00Z"


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """What it gets."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    lost: bool = False


Answer = Reply | Callable[[Request], Reply]


@dataclass
class FakeGateway:
    """Answers by `METHOD /path`; a list of answers is used up one by one, the last one stays."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def on(self, key: str, *answers: Answer) -> None:
        """Set what `METHOD /path` gets."""
        self.answers[key] = list(answers)

    def answer(self, request: Request) -> Reply:
        """Find the reply."""
        self.requests.append(request)
        found = self.answers.get(f"{request.method} {request.path}")
        if not found:
            return a_problem(404, "TASK_NOT_FOUND", "not_found", "no such thing")
        answer = found.pop(0) if len(found) > 1 else found[0]
        return answer(request) if callable(answer) else answer

    def sent(self, key: str) -> list[Request]:
        """The requests of one kind."""
        return [r for r in self.requests if f"{r.method} {r.path}" == key]


@contextmanager
def a_fake_gateway() -> Iterator[FakeGateway]:
    """Serve on a free loopback port until the end of the block."""
    gateway = FakeGateway()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            raw = self.rfile.read(length)
            url = urlsplit(self.path)
            headers = {key.lower(): value for key, value in self.headers.items()}
            body = json.loads(raw) if raw else None
            request = Request(self.command, url.path, parse_qs(url.query), headers, body)
            _send(self, gateway.answer(request))

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    if reply.lost:
        handler.close_connection = True
        return
    payload = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
    handler.send_response(reply.status)
    for name, value in {"content-type": "application/json", **reply.headers}.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(payload)))
    handler.send_header("connection", "close")
    handler.end_headers()
    handler.wfile.write(payload)
    handler.close_connection = True


def a_problem(status: int, code: str, category: str, detail: str, **more: Any) -> Reply:
    """A refusal as the gateway writes it."""
    headers = {"content-type": "application/problem+json"}
    if "retry_after_seconds" in more:
        headers["retry-after"] = str(more["retry_after_seconds"])
    body = {"title": code, "status": status, "code": code, "category": category, "detail": detail}
    return Reply(status, body | {"recovery_hint": "do better"} | more, headers)


def an_event(verb: str, seq: int, **data: Any) -> tuple[str, str, dict[str, Any]]:
    """One event of TASK_ID: (id, kind, data)."""
    common = {
        "event_id": "evt_01jd5x2b3c4d5e6f7g8h9jkmnp",
        "type": f"task.{verb}",
        "occurred_at": NOON,
        "task_id": TASK_ID,
        "tenant": "default",
        "seq": seq,
        "attempt": 1,
    }
    return str(seq), f"task.{verb}", common | data


def a_chunk(text: str) -> tuple[str, str, dict[str, Any]]:
    """A piece of output; it has no id."""
    return "", "chunk", {"task_id": TASK_ID, "attempt": 1, "seq": 0, "text": text}


def a_stream(*events: tuple[str, str, dict[str, Any]]) -> Reply:
    """Events as SSE; the connection closes after them."""
    text = ": hello\n\n" + "".join(
        (f"id: {event_id}\n" if event_id else "") + f"event: {kind}\ndata: {json.dumps(data)}\n\n"
        for event_id, kind, data in events
    )
    return Reply(200, headers={"content-type": "text/event-stream"}, raw=text.encode())


def a_result(output: Any = None, **more: Any) -> dict[str, Any]:
    """An ExecutionResult."""
    return {
        "task_id": TASK_ID,
        "attempt": 1,
        "arm_id": "llm",
        "instance_id": "llm-1",
        "status": "success",
        "output": output,
        "execution_time_ms": 1234,
        "tokens_used": 42,
        "cost_dollars": 0.0,
        "provenance": {"arm_id": "llm", "timestamp": NOON, "command_hash": "0" * 64},
    } | more


def a_task(**more: Any) -> dict[str, Any]:
    """A TaskView."""
    contract = {"task_id": TASK_ID, "tenant": "default", "goal": "say hello", "priority": 5}
    return {
        "task_id": TASK_ID,
        "tenant": "default",
        "state": "running",
        "status": "running",
        "attempt": 1,
        "arm_id": "llm",
        "created_at": NOON,
        "updated_at": NOON,
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "attempts": [],
        "task": contract | more.pop("task", {}),
    } | more
