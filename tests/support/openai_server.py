"""A small real HTTP server that speaks the chat-completions protocol, well or badly."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Reply = Callable[[asyncio.StreamWriter, dict[str, Any]], Coroutine[Any, Any, None]]
CONTEXT_TOKENS = 2048
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: close\r\n\r\n"
)
STORY = "Once upon a time an octopus with eight arms kept a ledger of all it did. " * 20


def an_event(text: str = "", **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    document = {"model": "fake-1", "choices": [choice], **more}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def the_end(prompt: int, completion: int, reason: str = "stop") -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": reason}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    last = {"model": "fake-1", "choices": [], "usage": usage}
    return (
        b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
        b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n"
    )


async def send(writer: asyncio.StreamWriter, block: bytes) -> None:
    writer.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
    await writer.drain()


async def answers(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    """Answer as a well-behaved server does: a word is a token."""
    words = " ".join(message["content"] for message in body["messages"]).split()
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if len(words) > CONTEXT_TOKENS:
        code = {"message": "too long", "code": "context_length_exceeded"}
        return await refuses(400, error=code)(writer, body)
    if schema is not None and "minLength" in json.dumps(schema):
        return await refuses(400, error={"message": "unsupported schema"})(writer, body)
    text = '{"city": "Lima", "size": 7}' if schema is not None else STORY
    tokens = text.split(" ")
    cut = tokens[: body["max_tokens"]]
    writer.write(STREAM_HEAD)
    for number, token in enumerate(cut):
        await send(writer, an_event(token if number == 0 else f" {token}"))
        await asyncio.sleep(0.001)
    reason = "stop" if len(cut) == len(tokens) else "length"
    await send(writer, the_end(len(words), len(cut), reason))
    writer.write(b"0\r\n\r\n")
    return None


def refuses(status: int, *, error: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
    async def reply(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        content = json.dumps({"error": error or {"message": f"status {status}"}}).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    return reply


def streams(*blocks: bytes, ends: bool = True) -> Reply:
    """Send these bytes as the stream; without `ends`, cut the connection after them."""

    async def reply(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        writer.write(STREAM_HEAD)
        for block in blocks:
            await send(writer, block)
        if ends:
            writer.write(b"0\r\n\r\n")

    return reply


async def streams_for_ever(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    writer.write(STREAM_HEAD)
    block = an_event("x" * 10_000)
    while True:
        await send(writer, block)


async def hangs(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    writer.write(STREAM_HEAD)
    await send(writer, an_event("slow"))
    await asyncio.sleep(3600)


async def never_answers(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    await asyncio.sleep(3600)


@dataclass(slots=True)
class OpenAIServer:
    """Replies by its script, one entry for each request, then `answers`."""

    url: str = ""
    script: list[Reply] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    busy: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _replies: set[asyncio.Task[None]] = field(default_factory=set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.busy += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
            body = json.loads(await reader.readexactly(length))
            self.heads.append(head)
            self.bodies.append(body)
            reply = self.script.pop(0) if self.script else answers
            replying = asyncio.create_task(reply(writer, body))
            gone = asyncio.create_task(reader.read(1))
            self._replies.add(replying)
            await asyncio.wait({replying, gone}, return_when=asyncio.FIRST_COMPLETED)
            for half in (replying, gone):
                half.cancel()
            await asyncio.gather(replying, gone, return_exceptions=True)
            self._replies.discard(replying)
        finally:
            self.busy -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def stop(self) -> None:
        for reply in self._replies:
            reply.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def an_openai_server(*script: Reply) -> AsyncGenerator[OpenAIServer, None]:
    server = OpenAIServer(script=list(script))
    listener = await asyncio.start_server(server._serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}/v1/"
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()
