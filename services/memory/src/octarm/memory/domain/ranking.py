"""One order from two: reciprocal rank fusion, with the reasons of every rank.

After Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
Rank Learning Methods" (2009): each list gives 1 / (60 + rank), times its weight. Ranks can be
added where scores cannot: a cosine and the weight of words have no common scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

DAMPING: Final = 60
# By the maker's name. Vectors of hashed words say again what the words say, less exactly: they
# settle what the words leave open. Averages of word pieces know synonyms, and no order of words
# (both measured: docs/architecture/retrieval-quality.md). Any other model counts as much as words.
HASHING_WEIGHT: Final = 0.05
WEIGHTS: Final = {"hashing-": HASHING_WEIGHT, "wordllama-": 0.25}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One memory in one list; the list is in order, the best first."""

    memory_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """One memory in the common order; a rank of None: it is not in that list."""

    memory_id: str
    score: float
    text_rank: int | None = None
    text_score: float = 0.0
    vector_rank: int | None = None
    vector_similarity: float = 0.0
    vector_weight: float = 1.0

    @property
    def text_part(self) -> float:
        """What the list of words gives to the score."""
        return _part(self.text_rank)

    @property
    def vector_part(self) -> float:
        """What the list of vectors gives to the score."""
        return self.vector_weight * _part(self.vector_rank)


def weight_of(embedders: Sequence[str]) -> float:
    """Give how much the list of vectors counts beside that of words, by who made the vectors."""
    return max(map(_weight, embedders), default=1.0)


def _weight(embedder: str) -> float:
    return next((w for prefix, w in WEIGHTS.items() if embedder.startswith(prefix)), 1.0)


def fused(
    text: Sequence[Candidate], vectors: Sequence[Candidate], *, vector_weight: float = 1.0
) -> list[Ranked]:
    """Order what is in either list by the sum of its parts, ties by similarity, then by id."""
    by_text, by_vector = _ranks(text), _ranks(vectors)
    found = [
        _ranked(memory_id, by_text, by_vector, vector_weight)
        for memory_id in by_text.keys() | by_vector.keys()
    ]
    return sorted(found, key=lambda one: (-one.score, -one.vector_similarity, one.memory_id))


def _ranks(candidates: Sequence[Candidate]) -> dict[str, tuple[int, float]]:
    ranks: dict[str, tuple[int, float]] = {}
    for candidate in candidates:
        ranks.setdefault(candidate.memory_id, (len(ranks) + 1, candidate.score))
    return ranks


def _ranked(
    memory_id: str,
    by_text: Mapping[str, tuple[int, float]],
    by_vector: Mapping[str, tuple[int, float]],
    vector_weight: float,
) -> Ranked:
    text_rank, text_score = by_text.get(memory_id, (None, 0.0))
    vector_rank, similarity = by_vector.get(memory_id, (None, 0.0))
    return Ranked(
        memory_id,
        _part(text_rank) + vector_weight * _part(vector_rank),
        text_rank,
        text_score,
        vector_rank,
        similarity,
        vector_weight,
    )


def _part(rank: int | None) -> float:
    return 0.0 if rank is None else 1 / (DAMPING + rank)
