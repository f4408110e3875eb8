"""Vectors of any server that speaks the OpenAI embeddings protocol."""

import asyncio
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec
from pydantic import SecretStr

from octarm.models.errors import OctarmError, Unauthenticated, Unavailable

BATCH: Final = 64
# What a model does not read of a long text does not count for its vector, either.
MAX_CHARS: Final = 8_000
MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
TRIES: Final = 3
FIRST_PAUSE_S: Final = 0.2
TOTAL_S: Final = 6.0
# After a failure it is left alone for so long: what waits for it must not pile up.
REST_S: Final = 5.0
_AGAIN: Final = frozenset({408, 409, 429, 500, 502, 503, 504})


class _Item(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Item]


_decode = msgspec.json.Decoder(_Answer).decode


@dataclass(slots=True, kw_only=True)
class OpenAIEmbedder:
    """A model behind `{base_url}/embeddings`; whoever makes it closes it.

    Redirects are not followed and no proxy of the environment is used: only the host that the
    operator has named is ever asked.
    """

    base_url: str
    model: str
    dimension: int
    api_key: SecretStr
    total_s: float = TOTAL_S
    rest_s: float = REST_S
    _client: httpx.AsyncClient | None = field(default=None, init=False)
    _not_before: float = field(default=0.0, init=False)

    @property
    def name(self) -> str:
        """The name of the model: its vectors may be compared with one another."""
        return self.model

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts, some at a time.

        Raises:
            Unavailable: no usable answer in `total_s` seconds, or not long after one was missed.
            Unauthenticated: the key is not accepted.
        """
        if time.monotonic() < self._not_before:
            raise Unavailable("the embedder failed just now", code="DEPENDENCY_FAILURE")
        try:
            async with asyncio.timeout(self.total_s):
                vectors: list[list[float]] = []
                for start in range(0, len(texts), BATCH):
                    vectors += await self._batch(texts[start : start + BATCH])
                return vectors
        except TimeoutError:
            self._not_before = time.monotonic() + self.rest_s
            raise _failed(f"no answer in {self.total_s:g} s") from None
        except OctarmError:
            self._not_before = time.monotonic() + self.rest_s
            raise

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _batch(self, texts: Sequence[str]) -> list[list[float]]:
        body = {"model": self.model, "input": [text[:MAX_CHARS] or " " for text in texts]}
        for attempt in range(TRIES):
            try:
                status, data = await self._post(body)
            except httpx.HTTPError as error:
                why = type(error).__name__
            else:
                if status == httpx.codes.OK:
                    return self._vectors(data, len(texts))
                if status in (401, 403):
                    raise Unauthenticated("the embedder does not accept the key")
                why = f"status {status}"
                if status not in _AGAIN:
                    break
            if attempt < TRIES - 1:
                # Spread out, or all that failed together would come back together.
                spread = random.uniform(0.5, 1.0)  # noqa: S311
                await asyncio.sleep(FIRST_PAUSE_S * 4**attempt * spread)
        raise _failed(why)

    async def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        if self._client is None:
            # Made on first use, because it belongs to the running loop.
            key = self.api_key.get_secret_value()
            self._client = httpx.AsyncClient(
                base_url=self.base_url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=self.total_s,
                follow_redirects=False,
                trust_env=False,
            )
        parts: list[bytes] = []
        size = 0
        async with self._client.stream("POST", "embeddings", json=body) as response:
            async for part in response.aiter_bytes():
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise _failed("an answer that is too large")
                parts.append(part)
            return response.status_code, b"".join(parts)

    def _vectors(self, data: bytes, number: int) -> list[list[float]]:
        try:
            items = sorted(_decode(data).data, key=lambda item: item.index)
        except (ValueError, RecursionError):
            raise _failed("an answer that is none") from None
        if [item.index for item in items] != list(range(number)):
            raise _failed("vectors of other texts")
        return [self._normalised(item.embedding) for item in items]

    def _normalised(self, vector: list[float]) -> list[float]:
        length = math.hypot(*vector)
        if len(vector) != self.dimension or not math.isfinite(length) or not length:
            raise _failed(f"a vector that is none of {self.dimension} components")
        return [part / length for part in vector]


def _failed(why: str) -> Unavailable:
    return Unavailable(
        f"the embedder gave {why}",
        "Check OCTARM_EMBEDDINGS_URL, its model and dimension, and that the server runs.",
        "DEPENDENCY_FAILURE",
    )
