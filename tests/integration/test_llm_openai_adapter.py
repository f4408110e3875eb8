"""The adapter for OpenAI-compatible servers, against a server that misbehaves."""

import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import psutil
import pytest
from pydantic import SecretStr

from octarm.llm.backoff import Backoff
from octarm.llm.openai_compatible import OpenAICompatible
from octarm.llm.provider import Chunk, Message, Request
from octarm.models.errors import (
    Backpressure,
    InvalidRequest,
    OctarmError,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from tests.support.openai_server import (
    OpenAIServer,
    Reply,
    an_event,
    an_openai_server,
    hangs,
    never_answers,
    refuses,
    streams,
    streams_for_ever,
    the_end,
)
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
KEY = "sk-very-secret"


async def ask(
    server: OpenAIServer,
    *,
    timeout_s: float = 5,
    tries: int = 3,
    throttled: Callable[[float], object] = lambda _: None,
) -> list[Chunk]:
    provider = OpenAICompatible(
        base_url=server.url,
        model="fake",
        api_key=SecretStr(KEY),
        context_tokens=4096,
        timeout_s=timeout_s,
        backoff=Backoff(tries=tries, initial_s=0.01, max_s=3),
    )
    asked = (Message("user", "Hello"),)
    request = Request(messages=asked, max_output_tokens=4, throttled=throttled)
    try:
        async with aclosing(provider.complete(request)) as chunks:
            return [chunk async for chunk in chunks]
    finally:
        await provider.aclose()


async def refusal(*script: Reply, timeout_s: float = 5) -> OctarmError:
    async with an_openai_server(*script) as server:
        with pytest.raises(OctarmError) as refused:
            await ask(server, timeout_s=timeout_s)
    assert KEY not in str(refused.value) + refused.value.recovery_hint
    return refused.value


class TestRequests:
    async def test_sends_the_key_and_what_was_asked(self) -> None:
        async with an_openai_server() as server:
            await ask(server)

        assert f"authorization: bearer {KEY}" in server.heads[0].lower()
        assert server.bodies[0]["messages"] == [{"role": "user", "content": "Hello"}]
        assert server.bodies[0]["max_tokens"] == 4
        assert server.bodies[0]["stream"] is True

    def test_never_shows_the_key(self) -> None:
        provider = OpenAICompatible(
            base_url="http://127.0.0.1:1/", model="m", api_key=SecretStr(KEY), context_tokens=9
        )

        assert KEY not in repr(provider)


class TestTryingAgain:
    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    async def test_tries_again_after_a_passing_failure(self, status: int) -> None:
        async with an_openai_server(refuses(status), refuses(status)) as server:
            chunks = await ask(server)

        assert len(server.bodies) == 3
        assert chunks[-1].usage is not None

    async def test_waits_as_many_seconds_as_the_server_wishes(self) -> None:
        async with an_openai_server(refuses(429, headers={"Retry-After": "1"})) as server:
            started = time.monotonic()
            await ask(server)

        assert time.monotonic() - started >= 1

    async def test_waits_until_the_time_that_the_server_names(self) -> None:
        at = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        async with an_openai_server(refuses(503, headers={"Retry-After": at})) as server:
            started = time.monotonic()
            await ask(server)

        assert time.monotonic() - started >= 0.9  # the header has whole seconds

    async def test_says_each_time_that_it_is_refused_for_too_many_requests(self) -> None:
        said: list[float] = []
        replies = [refuses(429, headers={"Retry-After": "1"}), refuses(429)]
        async with an_openai_server(*replies) as server:
            await ask(server, throttled=said.append)

        assert said[0] == 1
        assert len(said) == 2
        assert said[1] > 0

    async def test_leaves_a_long_wait_to_the_caller(self) -> None:
        started = time.monotonic()
        error = await refusal(refuses(429, headers={"Retry-After": "600"}))

        assert isinstance(error, Backpressure)
        assert (error.retryable, error.retry_after_s, error.code) == (True, 600, "RATE_LIMITED")
        assert time.monotonic() - started < 60

    async def test_gives_up_after_its_tries(self) -> None:
        async with an_openai_server(*[refuses(500)] * 9) as server:
            with pytest.raises(Unavailable, match="500") as refused:
                await ask(server)

        assert len(server.bodies) == 3
        assert refused.value.retryable

    @pytest.mark.parametrize("status", [400, 404, 422])
    async def test_does_not_repeat_a_wrong_request(self, status: int) -> None:
        async with an_openai_server(*[refuses(status)] * 9) as server:
            with pytest.raises(InvalidRequest) as refused:
                await ask(server)

        assert len(server.bodies) == 1
        assert not refused.value.retryable

    async def test_a_refused_key_is_the_operators_to_mend(self) -> None:
        error = await refusal(refuses(401, error={"message": f"bad key {KEY}"}))

        assert isinstance(error, Unauthenticated)
        assert "OCTARM_LLM_API_KEY" in error.recovery_hint


class TestBadStreams:
    @pytest.mark.parametrize(
        "reply",
        [
            streams(an_event("half"), ends=False),
            streams(an_event("no end marker")),
            streams(b"data: {malformed\n\n"),
            streams(b'data: {"choices": "no list"}\n\n'),
            streams(b"data: \xff\xfe\n\n"),
            streams(b'data: {"error": {"message": "overloaded"}}\n\n'),
            streams(b"data: " + b"[" * 100_000 + b"\n\n"),
            streams(b"data: " + b"x" * 1_000_000),
        ],
    )
    async def test_a_stream_that_makes_no_sense_may_be_tried_again(self, reply: Reply) -> None:
        error = await refusal(reply)

        assert isinstance(error, Unavailable)
        assert (error.code, error.retryable) == ("DEPENDENCY_FAILURE", True)

    async def test_is_not_tried_again_once_the_answer_has_begun(self) -> None:
        async with an_openai_server(streams(an_event("half"), ends=False)) as server:
            with pytest.raises(Unavailable):
                await ask(server)

        assert len(server.bodies) == 1

    @pytest.mark.bad_input(24)
    async def test_an_endless_stream_is_cut_and_not_kept(self) -> None:
        before = psutil.Process().memory_info().rss

        error = await refusal(streams_for_ever)

        assert isinstance(error, Unavailable)
        assert psutil.Process().memory_info().rss - before < 100_000_000

    async def test_a_stream_that_stalls_times_out(self) -> None:
        error = await refusal(hangs, timeout_s=0.3)

        assert isinstance(error, TimedOut)
        assert (error.code, error.retryable) == ("EXECUTION_TIMEOUT", True)

    async def test_a_server_that_never_answers_times_out(self) -> None:
        error = await refusal(*[never_answers] * 3, timeout_s=0.2)

        assert isinstance(error, TimedOut)

    async def test_a_server_that_is_not_there_is_unavailable(self) -> None:
        async with an_openai_server() as server:
            pass

        with pytest.raises(Unavailable, match="cannot be reached") as refused:
            await ask(server)

        assert refused.value.retryable

    async def test_estimates_what_a_server_does_not_count(self) -> None:
        done = b"data: [DONE]\n\n"
        async with an_openai_server(streams(an_event("a"), an_event("b"), done)) as server:
            chunks = await ask(server)

        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 2

    async def test_ignores_comments_and_what_it_does_not_know(self) -> None:
        reply = streams(b": ping\n\nevent: x\r\nid: 3\n", an_event("a", novelty=1), the_end(1, 1))
        async with an_openai_server(reply) as server:
            chunks = await ask(server)

        assert [chunk.text for chunk in chunks] == ["a", ""]

    async def test_leaves_the_server_when_the_reader_leaves(self) -> None:
        async with an_openai_server(hangs) as server:
            provider = OpenAICompatible(
                base_url=server.url, model="m", api_key=SecretStr(""), context_tokens=4096
            )
            request = Request(messages=(Message("user", "Hello"),), max_output_tokens=4)
            async with aclosing(provider.complete(request)) as chunks:
                async for _ in chunks:
                    break

            await wait_until(lambda: server.busy == 0)
            await provider.aclose()
