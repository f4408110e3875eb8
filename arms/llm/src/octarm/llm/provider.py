"""What this arm needs from a language model, whoever runs it."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import JsonValue

from octarm.models.errors import InvalidRequest


class SchemaNotSupported(InvalidRequest):
    """The provider cannot hold its output to this (valid) JSON Schema."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


def _nobody(retry_after_s: float) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call; with `output_schema` the provider is asked to write JSON that conforms to it.

    `throttled` is called with seconds whenever the provider refuses because of too many requests.
    """

    messages: tuple[Message, ...]
    max_output_tokens: int
    temperature: float = 0.0
    output_schema: Mapping[str, JsonValue] | None = None
    throttled: Callable[[float], object] = _nobody


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and calls, as the provider counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls + other.calls,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of the answer. The last one, and only it, has `usage` and `finish_reason`."""

    text: str = ""
    usage: Usage | None = None
    finish_reason: str = ""
    model: str = ""


class Provider(Protocol):
    """A language model that streams its answers."""

    @property
    def context_tokens(self) -> int:
        """How many tokens the prompt and the answer may have together."""
        ...

    def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Stream the answer to one request. Closing the generator stops the generation.

        Raises:
            SchemaNotSupported: ask again without `output_schema`.
            OctarmError: the call failed; `retryable` says whether another try can help.
        """
        ...

    async def count_tokens(self, text: str) -> int:
        """Count the tokens of `text`, exactly or a little too high."""
        ...

    async def aclose(self) -> None:
        """Release connections and processes; idempotent."""
        ...
