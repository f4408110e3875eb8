"""Vectors of a model that comes in a wheel: a table of word pieces, averaged over a text.

The model is the one of WordLlama (MIT): 32,000 pieces, 256 components, distilled from the input
layers of large language models. Only the files of its package are read; nothing is fetched.
"""

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from octarm.memory.settings import LOCAL_MODEL as NAME
from octarm.models.errors import OctarmError

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

DIMENSION: Final = 256
# As for any other model: what is further down does not count for the vector.
MAX_CHARS: Final = 8_000
_TOKENIZER: Final = "tokenizers/l2_supercat_tokenizer_config.json"
_WEIGHTS: Final = "weights/l2_supercat_256.safetensors"


@dataclass(frozen=True, slots=True)
class LocalEmbedder:
    """Deterministic vectors that know synonyms, some 0.1 ms a text, 50 MiB of memory."""

    tokenizer: "Tokenizer"
    table: "np.ndarray[Any, Any]"
    name: str = NAME
    dimension: int = DIMENSION

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Give the vectors; it cannot fail."""
        if sum(map(len, texts)) < 1_000:
            # Shorter than the way to another thread and back.
            return self._vectors(texts)
        return await asyncio.to_thread(self._vectors, texts)

    def _vectors(self, texts: Sequence[str]) -> list[list[float]]:
        cut = [text[:MAX_CHARS] for text in texts]
        encoded = self.tokenizer.encode_batch_fast(cut, add_special_tokens=False)
        return [self._mean(one.ids) for one in encoded]

    def _mean(self, pieces: Sequence[int]) -> list[float]:
        total: list[float] = self.table[pieces].sum(axis=0, dtype="float64").tolist()
        length = math.hypot(*total)
        # A text without a single piece still has to point somewhere.
        return [part / length for part in total] if length else [1.0] + [0.0] * (DIMENSION - 1)


def local_embedder() -> LocalEmbedder:
    """Load the model, in about half a second.

    Raises:
        OctarmError: its package is not installed, or is not the one that is known here.
    """
    package = find_spec("wordllama")
    try:
        # The package itself is not imported: it would set up logging for the whole process.
        if package is None or package.origin is None:
            raise ImportError("wordllama")
        from tokenizers import Tokenizer

        folder = Path(package.origin).parent
        return LocalEmbedder(Tokenizer.from_file(str(folder / _TOKENIZER)), _table(folder))
    except (ImportError, OSError, ValueError) as error:
        raise OctarmError(
            f"the model {NAME} cannot be loaded: {error}",
            "Install octarm-memory[local], or leave OCTARM_EMBEDDINGS_MODEL empty.",
        ) from error


def _table(folder: Path) -> "np.ndarray[Any, Any]":
    import numpy as np

    data = (folder / _WEIGHTS).read_bytes()
    # The format of safetensors: the length of a JSON, the JSON, the numbers.
    start = 8 + int.from_bytes(data[:8], "little")
    about = json.loads(data[8:start])["embedding.weight"]
    if about["dtype"] != "F16" or about["shape"][1] != DIMENSION:
        raise ValueError("other weights than those of its version 0.4")
    table = np.frombuffer(data, dtype=np.float16, offset=start + about["data_offsets"][0])
    return table.reshape(about["shape"])
