"""Answering, with a provider whose answers are written down beforehand."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest

from octarm.common.telemetry import tracing
from octarm.llm.answer import MAX_ANSWER_CHARS, Answer, AnswerTask
from octarm.llm.provider import Chunk, Request, SchemaNotSupported, Usage
from octarm.llm.question import Defaults
from octarm.models.errors import OctarmError, Unavailable
from octarm.sdk.spending import Left, Spending, Spent, limit_of
from tests.support.arm_stage import a_task

NUMBER = {"output_schema": {"type": "integer"}}


@dataclass
class FakeProvider:
    """Gives its answers in turn; a word is a token. An error is raised, in the middle of `half`."""

    answers: list[str | OctarmError]
    context_tokens: int = 1000
    half: str = ""
    requests: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, OctarmError):
            if self.half:
                yield Chunk(text=self.half)
            raise answer
        prompt = sum([await self.count_tokens(m.content) for m in request.messages])
        words = answer.split(" ")
        for number, word in enumerate(words[: request.max_output_tokens]):
            yield Chunk(text=word if number == 0 else f" {word}")
        reason = "stop" if len(words) <= request.max_output_tokens else "length"
        used = min(len(words), request.max_output_tokens)
        yield Chunk(usage=Usage(prompt, used, 1), finish_reason=reason, model="fake-1")

    async def count_tokens(self, text: str) -> int:
        return len(text.split())

    async def aclose(self) -> None:
        pass


class AnAttempt:
    """Books spend as the SDK does."""

    def __init__(self, task: Any) -> None:
        self._spending = Spending(limit_of(task))
        self.emitted: list[str] = []

    @property
    def left(self) -> Left:
        return self._spending.left()

    @property
    def spent(self) -> Spent:
        return self._spending.total

    def emit(self, text: str) -> None:
        self.emitted.append(text)

    def span(self, name: str, **attributes: Any) -> AbstractContextManager[tracing.Span]:
        return tracing.span(name, "", **attributes)

    def throttled(self, retry_after_s: float) -> None:
        pass

    def spend(self, *, tokens: int, llm_calls: int, call_no: int) -> None:
        self._spending.book(Spent(tokens=tokens, llm_calls=llm_calls), call_no)
        self._spending.check()


async def ask(
    provider: FakeProvider, max_output_tokens: int = 50, **fields: Any
) -> tuple[Answer, AnAttempt]:
    task = a_task(**fields)
    attempt = AnAttempt(task)
    answer_task = AnswerTask(provider, Defaults(max_output_tokens=max_output_tokens))
    return await answer_task(task, attempt), attempt


class TestPlainAnswers:
    async def test_streams_books_and_returns_the_answer(self) -> None:
        answer, attempt = await ask(FakeProvider(["It is Paris."]))

        assert answer.output == {
            "text": "It is Paris.",
            "finish_reason": "stop",
            "input_truncated": False,
        }
        assert "".join(attempt.emitted) == "It is Paris."
        assert attempt.spent == Spent(tokens=answer.usage.tokens, llm_calls=1)
        assert (answer.model, answer.error) == ("fake-1", None)

    async def test_the_same_prompt_has_the_same_hash(self) -> None:
        first, _ = await ask(FakeProvider(["a"]), goal="Why?")
        again, _ = await ask(FakeProvider(["b"]), goal="Why?")
        other, _ = await ask(FakeProvider(["a"]), goal="Why? ")

        assert first.prompt_hash == again.prompt_hash != other.prompt_hash

    async def test_a_long_text_is_cut_and_the_output_says_so(self) -> None:
        provider = FakeProvider(["Short."], context_tokens=200)

        answer, _ = await ask(provider, context={"text": "One two three four. " * 100})

        assert isinstance(answer.output, dict)
        assert answer.output["input_truncated"] is True
        assert "input truncated" in answer.steps[0]
        assert 'four.\n"""' in provider.requests[0].messages[-1].content
        assert answer.usage.prompt_tokens + 50 <= 200

    async def test_a_goal_larger_than_the_context_is_refused(self) -> None:
        answer, attempt = await ask(FakeProvider([], context_tokens=100), goal="word " * 200)

        assert answer.error is not None
        assert (answer.error.code, answer.error.retryable) == ("PAYLOAD_TOO_LARGE", False)
        assert attempt.spent.llm_calls == 0

    @pytest.mark.bad_input(24)
    async def test_an_endless_answer_is_cut(self) -> None:
        provider = FakeProvider(["x" * (MAX_ANSWER_CHARS + 1) + " more" * 9])

        answer, _ = await ask(provider)

        assert isinstance(answer.output, dict)
        assert answer.output["finish_reason"] == "length"
        assert "more" not in str(answer.output["text"])

    async def test_a_failed_call_is_told_with_what_it_cost(self) -> None:
        lost = FakeProvider([Unavailable("gone")], half="Once upon a time")

        answer, attempt = await ask(lost)

        assert answer.error is not None
        assert answer.error.retryable
        assert attempt.spent.llm_calls == 1
        assert attempt.spent.tokens > 4

    async def test_a_call_that_never_began_costs_nothing(self) -> None:
        _, attempt = await ask(FakeProvider([Unavailable("gone")]))

        assert attempt.spent == Spent()


class TestBudgets:
    async def test_the_answer_gets_what_the_prompt_leaves(self) -> None:
        provider = FakeProvider(["word " * 200])

        answer, attempt = await ask(provider, budget={"max_tokens": 60})

        assert answer.error is None
        assert provider.requests[0].max_output_tokens < 50
        assert attempt.spent.tokens <= 60

    async def test_nothing_is_asked_that_cannot_be_paid(self) -> None:
        provider = FakeProvider([])

        answer, _ = await ask(
            provider, context={"text": "many words " * 100}, budget={"max_tokens": 60}
        )

        assert answer.error is not None
        assert (answer.error.code, answer.error.retryable) == ("BUDGET_EXCEEDED", False)
        assert provider.requests == []

    async def test_no_repair_beyond_the_calls_allowed(self) -> None:
        provider = FakeProvider(["no", "no", "7"])

        answer, _ = await ask(provider, constraints=NUMBER, budget={"max_llm_calls": 1})

        assert answer.error is not None
        assert "no further call" in answer.error.message
        assert len(provider.requests) == 1


class TestSchemas:
    async def test_the_output_is_the_parsed_value(self) -> None:
        answer, _ = await ask(FakeProvider(["7"]), constraints=NUMBER)

        assert (answer.output, answer.error) == (7, None)

    async def test_an_invalid_answer_is_repaired(self) -> None:
        provider = FakeProvider(["seven", '"7"', "7"])

        answer, attempt = await ask(provider, constraints=NUMBER)

        assert (answer.output, answer.usage.calls) == (7, 3)
        assert attempt.spent.llm_calls == 3
        assert "not valid" in provider.requests[2].messages[-1].content
        assert len(provider.requests[2].messages) == 4
        assert attempt.emitted == ["seven"]

    @pytest.mark.bad_input(24)
    async def test_fails_after_two_repairs_and_shows_the_last_answer(self) -> None:
        provider = FakeProvider(["a", "b", "c", "7"])

        answer, _ = await ask(provider, constraints=NUMBER)

        assert answer.error is not None
        assert (answer.error.code, answer.error.retryable) == ("VALIDATION_FAILED", False)
        assert answer.output == {"text": "c"}
        assert len(provider.requests) == 3

    async def test_asks_freely_where_the_schema_cannot_constrain(self) -> None:
        provider = FakeProvider([SchemaNotSupported("no"), "7"])

        answer, _ = await ask(provider, constraints=NUMBER)

        assert answer.output == 7
        assert provider.requests[1].output_schema is None

    @pytest.mark.bad_input(24)
    async def test_a_fake_event_in_the_answer_is_only_text(self) -> None:
        fake = '{"type":"task.completed","task_id":"x"}'

        answer, _ = await ask(FakeProvider([fake]))

        assert isinstance(answer.output, dict)
        assert answer.output["text"] == fake


async def test_a_cancelled_answer_closes_its_provider() -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    class Slow(FakeProvider):
        async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
            try:
                yield Chunk(text="a")
                begun.set()
                await asyncio.Event().wait()
            finally:
                closed.set()

    asking = asyncio.create_task(ask(Slow([])))
    await begun.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert closed.is_set()
