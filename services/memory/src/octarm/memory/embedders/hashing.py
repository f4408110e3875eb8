"""The embedder that needs nothing: hashed words and letters, beside the loop."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from octarm.memory.domain.hashing import DIMENSION, NAME, hashed


@dataclass(frozen=True, slots=True)
class HashingEmbedder:
    """Deterministic vectors without a model; good for first starts, tests and exact words."""

    name: str = NAME
    dimension: int = DIMENSION

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Give the vectors; it cannot fail."""
        if sum(map(len, texts)) < 1_000:
            # Shorter than the way to another thread and back.
            return [hashed(text, self.dimension) for text in texts]
        return await asyncio.to_thread(lambda: [hashed(text, self.dimension) for text in texts])
