"""Answer one task: ask, stream, count, and hold the answer to its schema."""

import hashlib
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from pydantic import JsonValue

from octarm.common.telemetry.tracing import Span
from octarm.llm.provider import Chunk, Message, Provider, Request, SchemaNotSupported, Usage
from octarm.llm.question import Defaults, Question, question_of
from octarm.llm.truncation import fitted
from octarm.models.contracts import TaskContract
from octarm.models.errors import BudgetExceeded, OctarmError, PayloadTooLarge, TaskFailed

REPAIRS: Final = 2
TOKENS_PER_MESSAGE: Final = 12
"""What a chat template puts around each message, at most."""
MAX_ANSWER_CHARS: Final = 200_000
_SHOWN_CHARS: Final = 2_000
_REPEATED_GOAL_CHARS: Final = 500


class Left(Protocol):
    """What the budget of the attempt still allows; None is unlimited."""

    @property
    def tokens(self) -> int | None:
        """Tokens, of prompts and answers together."""

    @property
    def llm_calls(self) -> int | None:
        """Calls."""


class Attempt(Protocol):
    """Where chunks and spend of the attempt go (`octarm.sdk.Context` is one)."""

    @property
    def left(self) -> Left:
        """What may still be spent."""

    def emit(self, text: str) -> Any:
        """Stream a piece of the answer."""

    def span(self, name: str, **attributes: Any) -> AbstractContextManager[Span]:
        """Trace a step below the attempt's."""

    def throttled(self, retry_after_s: float) -> Any:
        """Tell the fleet that the provider wants no requests for that long."""

    def spend(self, *, tokens: int, llm_calls: int, call_no: int) -> Any:
        """Book a call; raises BudgetExceeded when the budget is now overspent."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came of a question; `error` is None exactly when `output` is the answer."""

    prompt_hash: str
    output: JsonValue = None
    error: OctarmError | None = None
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    steps: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AnswerTask:
    """Answers a task with a language model, within its budget."""

    provider: Provider
    defaults: Defaults
    traced_as: Mapping[str, str] = field(default_factory=dict)
    """Provider and model, as traces call them."""

    async def __call__(self, task: TaskContract, attempt: Attempt) -> Answer:
        """Ask the model. A call that fails is told in the answer, with what was spent till then.

        Raises:
            InvalidRequest: the task asks for something impossible; nothing was spent.
        """
        question = question_of(task, self.defaults)
        conversation = _Conversation(self.provider, question, attempt, self.traced_as)
        try:
            await conversation.run()
        except OctarmError as error:
            conversation.answer.error = error
        return conversation.answer


class _Conversation:
    """The calls that one question takes: one, and with a schema up to two repairs."""

    def __init__(
        self, provider: Provider, question: Question, attempt: Attempt, traced_as: Mapping[str, str]
    ) -> None:
        self.answer = Answer(prompt_hash=_sha256(question.goal))
        self._provider = provider
        self._question = question
        self._attempt = attempt
        self._traced_as = traced_as
        self._constrained = question.schema is not None
        # An answer never takes more than half of the context, so that something can be asked.
        self._max_output = min(question.max_output_tokens, provider.context_tokens // 2)
        self._truncated = False

    async def run(self) -> None:
        """Ask until the answer is good or must be given up."""
        messages = await self._opening()
        prompt = "\0".join(f"{message.role}\0{message.content}" for message in messages)
        self.answer.prompt_hash = _sha256(prompt)
        if self._question.schema is None:
            text, reason = await self._call(messages)
            self.answer.output = {
                "text": text,
                "finish_reason": reason,
                "input_truncated": self._truncated,
            }
        else:
            await self._run_with_schema(messages)

    async def _run_with_schema(self, messages: tuple[Message, ...]) -> None:
        assert self._question.schema is not None
        wrong: list[str] = []
        for tries_made in range(REPAIRS + 1):
            if tries_made and self._attempt.left.llm_calls == 0:
                wrong.append("the budget allows no further call to repair it")
                break
            text, reason = await self._call_constrained(messages)
            value, wrong = self._question.schema.parse(text)
            if not wrong:
                self.answer.output = value
                return
            if reason == "length":
                wrong.append("it was cut off at max_output_tokens")
            self.answer.steps.append(f"try {tries_made + 1} was invalid: {wrong[0]}")
            messages = (*messages[:2], *_repair(text, wrong))
        self.answer.output = {"text": text[:_SHOWN_CHARS]}
        raise TaskFailed(
            f"the model's answer is not valid: {'; '.join(wrong)}"[:2000],
            "Simplify the schema, raise max_output_tokens, or use a larger model.",
            "VALIDATION_FAILED",
        )

    async def _opening(self) -> tuple[Message, ...]:
        question, count = self._question, self._provider.count_tokens
        system = [question.system]
        if question.rules:
            system.append(f"Keep to these constraints:\n{question.rules}")
        if question.schema is not None and len(question.schema.text) <= _SHOWN_CHARS:
            schema = question.schema.text
            system.append(f"Answer only with JSON that conforms to this JSON Schema:\n{schema}")
        instructions = "\n\n".join(system)
        frame = _with_text(question.goal, "") if question.text else question.goal
        fixed = await count(instructions) + await count(frame) + 3 * TOKENS_PER_MESSAGE
        room = self._provider.context_tokens - self._max_output - fixed
        if room < 0:
            raise PayloadTooLarge(
                f"goal and instructions leave no room in the model's context of "
                f"{self._provider.context_tokens} tokens",
                "Shorten the goal, or use a model with a larger context.",
            )
        text = await fitted(question.text, room, count) if question.text else ""
        if len(text) < len(question.text):
            self._truncated = True
            step = f"input truncated to {len(text)} of {len(question.text)} characters"
            self.answer.steps.append(step)
        asked = _with_text(question.goal, text) if text else question.goal
        return Message("system", instructions), Message("user", asked)

    async def _call_constrained(self, messages: tuple[Message, ...]) -> tuple[str, str]:
        if self._constrained:
            try:
                return await self._call(messages)
            except SchemaNotSupported:
                # Some valid schemas cannot be turned into a grammar: ask freely, check after.
                self._constrained = False
                self.answer.steps.append("the provider cannot constrain its output to the schema")
        return await self._call(messages)

    async def _call(self, messages: tuple[Message, ...]) -> tuple[str, str]:
        prompt_tokens = await self._count(messages)
        request = Request(
            messages=messages,
            max_output_tokens=self._room_for_answer(prompt_tokens),
            temperature=self._question.temperature,
            throttled=self._attempt.throttled,
        )
        if self._constrained and self._question.schema is not None:
            request = replace(request, output_schema=self._question.schema.document)
        about = {"max_tokens": request.max_output_tokens, "temperature": request.temperature}
        with self._attempt.span("llm.chat", **self._traced_as, **about) as span:
            return await self._answered(request, prompt_tokens, span)

    async def _answered(self, request: Request, prompt_tokens: int, span: Span) -> tuple[str, str]:
        shown = self.answer.usage.calls == 0  # what watchers see is not taken back by a repair
        text, last = "", Chunk()
        try:
            async with aclosing(self._provider.complete(request)) as chunks:
                async for last in chunks:
                    text += last.text
                    if shown and last.text:
                        self._attempt.emit(last.text)
                    if len(text) > MAX_ANSWER_CHARS:
                        break
        finally:
            if text or last.usage is not None:  # an answer that broke off was paid for, too
                pieces = math.ceil(len(text) / 3)
                usage = last.usage or Usage(prompt_tokens, pieces, 1)
                span.put(
                    input_tokens=usage.prompt_tokens,
                    output_tokens=usage.completion_tokens,
                    response_model=last.model,
                )
                self._book(usage, last.model)
        return text, last.finish_reason or "length"

    async def _count(self, messages: tuple[Message, ...]) -> int:
        counts = [await self._provider.count_tokens(message.content) for message in messages]
        return sum(counts) + len(messages) * TOKENS_PER_MESSAGE

    def _room_for_answer(self, prompt: int) -> int:
        """How many tokens the answer may have, by its own limit, the context and the budget."""
        left = self._attempt.left
        if left.llm_calls == 0:
            raise BudgetExceeded("the budget allows no further LLM call")
        room = min(self._max_output, self._provider.context_tokens - prompt)
        if room < 1:
            raise PayloadTooLarge("the conversation has outgrown the model's context")
        if left.tokens is not None and left.tokens <= prompt:
            raise BudgetExceeded(f"the prompt needs {prompt} tokens, {left.tokens} are left")
        return room if left.tokens is None else min(room, left.tokens - prompt)

    def _book(self, usage: Usage, model: str) -> None:
        self.answer.usage += usage
        self.answer.model = model or self.answer.model
        self._attempt.spend(
            tokens=usage.tokens, llm_calls=usage.calls, call_no=self.answer.usage.calls
        )


def _with_text(goal: str, text: str) -> str:
    """Put the text between marks, and a short goal before and after it: small models forget."""
    quoted = f'{goal}\n\nText:\n"""\n{text}\n"""'
    return f"{quoted}\n\n{goal}" if len(goal) <= _REPEATED_GOAL_CHARS else quoted


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _repair(text: str, wrong: list[str]) -> tuple[Message, Message]:
    said = Message("assistant", text[:_SHOWN_CHARS])
    return said, Message(
        "user", f"That is not valid: {'; '.join(wrong)}. Answer again, only with the whole JSON."
    )
