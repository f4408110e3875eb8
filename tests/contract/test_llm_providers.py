"""What holds for every provider, on the real local model and on the adapter for servers."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import jsonschema_rs
import msgspec
import pytest
from pydantic import JsonValue, SecretStr

from octarm.llm.backoff import Backoff
from octarm.llm.local import LocalModel, default_weights
from octarm.llm.openai_compatible import OpenAICompatible
from octarm.llm.provider import Chunk, Message, Provider, Request, SchemaNotSupported
from octarm.models.errors import PayloadTooLarge
from tests.support.openai_server import CONTEXT_TOKENS, an_openai_server
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
CITY: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 30},
        "size": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["city", "size"],
    "additionalProperties": False,
}


@pytest.fixture(params=["local", "openai"])
async def provider(request: pytest.FixtureRequest) -> AsyncGenerator[Provider, None]:
    """Each provider in turn."""
    made: Provider
    async with an_openai_server() as server:
        if request.param == "local":
            made = LocalModel(default_weights(), context_tokens=2048, slots=2, threads=2)
        else:
            made = OpenAICompatible(
                base_url=server.url,
                model="fake",
                api_key=SecretStr("sk-1"),
                context_tokens=CONTEXT_TOKENS,
                backoff=Backoff(initial_s=0.01),
            )
        yield made
        await made.aclose()


def a_request(
    content: str = "Tell me a long story.",
    *,
    max_output_tokens: int = 24,
    output_schema: dict[str, JsonValue] | None = None,
) -> Request:
    return Request(
        messages=(Message("system", "You help."), Message("user", content)),
        max_output_tokens=max_output_tokens,
        output_schema=output_schema,
    )


async def all_of(provider: Provider, request: Request) -> list[Chunk]:
    async with aclosing(provider.complete(request)) as chunks:
        return [chunk async for chunk in chunks]


async def test_streams_pieces_and_ends_with_the_usage(provider: Provider) -> None:
    *pieces, last = await all_of(provider, a_request())

    assert len(pieces) > 3
    assert all(piece.text and piece.usage is None for piece in pieces)
    assert last.usage is not None
    assert last.usage.calls == 1
    assert last.usage.prompt_tokens > 0
    assert last.finish_reason in {"stop", "length"}
    assert last.model


async def test_stops_at_the_greatest_number_of_tokens(provider: Provider) -> None:
    *_, last = await all_of(provider, a_request(max_output_tokens=5))

    assert last.usage is not None
    assert last.usage.completion_tokens <= 5
    assert last.finish_reason == "length"


async def test_writes_json_that_conforms_to_the_schema(provider: Provider) -> None:
    request = a_request("Name a city.", max_output_tokens=80, output_schema=CITY)

    chunks = await all_of(provider, request)

    value = msgspec.json.decode("".join(chunk.text for chunk in chunks))
    jsonschema_rs.Draft202012Validator(CITY).validate(value)


async def test_says_so_when_it_cannot_hold_to_a_schema(provider: Provider) -> None:
    schema: dict[str, JsonValue] = {"type": "string", "minLength": 10**9}

    with pytest.raises(SchemaNotSupported):
        await all_of(provider, a_request(output_schema=schema))


async def test_refuses_what_is_longer_than_its_context(provider: Provider) -> None:
    with pytest.raises(PayloadTooLarge) as refused:
        await all_of(provider, a_request("word " * 3000))

    assert not refused.value.retryable


@pytest.mark.parametrize("text", ["", "Hello, world.", "é漢字 🦑 " * 50, "a b c " * 300])
async def test_counts_no_fewer_tokens_than_are_billed(provider: Provider, text: str) -> None:
    *_, last = await all_of(provider, a_request(text, max_output_tokens=1))

    assert last.usage is not None
    counted = await provider.count_tokens(text) + await provider.count_tokens("You help.")
    assert counted + 2 * 12 >= last.usage.prompt_tokens


async def test_stops_generating_when_the_reader_leaves(provider: Provider) -> None:
    async with aclosing(provider.complete(a_request(max_output_tokens=1900))) as chunks:
        async for _ in chunks:
            break

    started = time.monotonic()
    await asyncio.gather(*(all_of(provider, a_request(max_output_tokens=2)) for _ in range(2)))
    assert time.monotonic() - started < 30


async def test_stops_when_the_reading_task_is_cancelled(provider: Provider) -> None:
    seen: list[Chunk] = []

    async def read() -> None:
        async with aclosing(provider.complete(a_request(max_output_tokens=1000))) as chunks:
            async for chunk in chunks:
                seen.append(chunk)

    reading = asyncio.create_task(read())
    await wait_until(lambda: seen, timeout_s=20)
    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert seen[-1].usage is None


async def test_answers_two_at_the_same_time(provider: Provider) -> None:
    first, second = await asyncio.gather(*(all_of(provider, a_request()) for _ in range(2)))

    assert first[-1].usage is not None
    assert second[-1].usage is not None


async def test_can_be_closed_twice(provider: Provider) -> None:
    await provider.aclose()
    await provider.aclose()
