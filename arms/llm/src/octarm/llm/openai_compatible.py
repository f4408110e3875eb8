"""The adapter for any server that speaks the OpenAI chat-completions protocol."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec
from pydantic import SecretStr

from octarm.llm.backoff import Backoff, parse_retry_after
from octarm.llm.event_stream import broken, events
from octarm.llm.provider import Chunk, Request, SchemaNotSupported, Usage
from octarm.models.errors import (
    Backpressure,
    InvalidRequest,
    OctarmError,
    PayloadTooLarge,
    TimedOut,
    Unauthenticated,
    Unavailable,
)

MAX_ERROR_BYTES: Final = 64 * 1024
_CONTEXT_EXCEEDED: Final = ("exceed_context_size", "context_length_exceeded", "context length")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAICompatible:
    """A model behind `{base_url}/chat/completions`.

    A call is tried again, with backoff, only until its answer begins to arrive.
    """

    base_url: str
    model: str
    api_key: SecretStr
    context_tokens: int
    timeout_s: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Stream the answer; see `Provider.complete`."""
        response = await self._opened(request)
        try:
            async with aclosing(_chunks(response)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except httpx.TimeoutException:
            raise TimedOut(
                f"the provider sent nothing for {self.timeout_s:g} s", code="EXECUTION_TIMEOUT"
            ) from None
        except httpx.HTTPError as error:
            raise broken(type(error).__name__) from None
        finally:
            await response.aclose()

    async def count_tokens(self, text: str) -> int:
        """Estimate from bytes and words, rather too high: tokenizers differ between models."""
        return max(math.ceil(len(text.encode()) / 3), len(text.split()))

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        while self._clients:
            await self._clients.pop().aclose()

    async def _opened(self, request: Request) -> httpx.Response:
        tries_made = 0
        while True:
            failure = await self._try(request)
            if isinstance(failure, httpx.Response):
                return failure
            tries_made += 1
            delay_s = self.backoff.delay_s(tries_made, failure.retry_after_s)
            if isinstance(failure, Backpressure):
                request.throttled(failure.retry_after_s or delay_s or self.backoff.max_s)
            if not failure.retryable or delay_s is None:
                raise failure
            await asyncio.sleep(delay_s)

    async def _try(self, request: Request) -> httpx.Response | OctarmError:
        client = self._client()
        message = client.build_request("POST", "chat/completions", json=self._body(request))
        try:
            response = await client.send(message, stream=True)
        except httpx.TimeoutException:
            return TimedOut(
                f"the provider did not answer in {self.timeout_s:g} s", code="EXECUTION_TIMEOUT"
            )
        except httpx.HTTPError as error:
            return Unavailable(
                f"the provider cannot be reached ({type(error).__name__})",
                "Check OCTARM_LLM_BASE_URL and that the server runs.",
                "DEPENDENCY_FAILURE",
            )
        if response.status_code == httpx.codes.OK:
            return response
        try:
            return _error_of(response, await _detail(response), request)
        finally:
            await response.aclose()

    def _client(self) -> httpx.AsyncClient:
        """The one client, made on first use because it belongs to the running loop."""
        if not self._clients:
            key = self.api_key.get_secret_value()
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            self._clients.append(
                httpx.AsyncClient(base_url=self.base_url, headers=headers, timeout=self.timeout_s)
            )
        return self._clients[0]

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "max_tokens": request.max_output_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.output_schema is not None:
            schema = {"name": "output", "schema": request.output_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


async def _chunks(response: httpx.Response) -> AsyncGenerator[Chunk, None]:
    usage, finish_reason, model, pieces = None, "", "", 0
    async for event in events(response.aiter_bytes()):
        model = event.model or model
        if event.usage is not None:
            usage = Usage(event.usage.prompt_tokens, event.usage.completion_tokens, 1)
        for choice in event.choices[:1]:
            finish_reason = choice.finish_reason or finish_reason
            if choice.delta.content:
                pieces += 1
                yield Chunk(text=choice.delta.content)
    # A server that sends no usage still sends about one token in each piece.
    last = usage or Usage(0, pieces, 1)
    yield Chunk(usage=last, finish_reason=finish_reason or "stop", model=model[:200])


async def _detail(response: httpx.Response) -> str:
    """The provider's own words on what is wrong, as far as they can be read."""
    body = b""
    try:
        async for block in response.aiter_bytes():
            body += block
            if len(body) > MAX_ERROR_BYTES:
                break
        error = msgspec.json.decode(body)["error"]
        return f"{error['message']} {error.get('code', '')} {error.get('type', '')}"[:500]
    except (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return body[:200].decode("utf-8", "replace")


def _error_of(response: httpx.Response, detail: str, request: Request) -> OctarmError:
    status = response.status_code
    said = f"the provider answered {status}: {detail}"
    after_s = parse_retry_after(response.headers.get("Retry-After"), now=datetime.now(UTC))
    whole_s = max(1, math.ceil(after_s)) if after_s is not None else None
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Backpressure(said, code="RATE_LIMITED", retry_after_s=whole_s)
    if status >= 500 or status == httpx.codes.REQUEST_TIMEOUT:
        return Unavailable(said, code="DEPENDENCY_FAILURE", retry_after_s=whole_s)
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return Unauthenticated(
            f"the provider answered {status}", "Set OCTARM_LLM_API_KEY to a key it accepts."
        )
    if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE or any(
        sign in detail for sign in _CONTEXT_EXCEEDED
    ):
        return PayloadTooLarge(said, "Send less text, or use a model with a larger context.")
    if request.output_schema is not None and status in {400, 422}:
        return SchemaNotSupported(said)
    return InvalidRequest(said)
