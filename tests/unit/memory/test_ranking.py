"""One order from two."""

import pytest

from octarm.memory.domain.ranking import HASHING_WEIGHT, Candidate, fused, weight_of


def candidates(*ids: str) -> list[Candidate]:
    return [Candidate(memory_id, 1 - place / 10) for place, memory_id in enumerate(ids)]


class TestFused:
    def test_what_both_lists_have_comes_first(self) -> None:
        ranked = fused(candidates("a", "b"), candidates("c", "b"))

        assert [one.memory_id for one in ranked] == ["b", "c", "a"]
        assert ranked[0].score == pytest.approx(2 / 62)
        assert (ranked[0].text_rank, ranked[0].vector_rank) == (2, 2)
        assert (ranked[0].text_part, ranked[0].vector_part) == pytest.approx((1 / 62, 1 / 62))

    def test_says_what_a_list_did_not_give(self) -> None:
        (one,) = fused(candidates("a"), [])

        assert (one.text_rank, one.text_score, one.vector_rank, one.vector_part) == (
            1,
            1.0,
            None,
            0,
        )

    def test_counts_the_better_place_of_one_that_comes_twice(self) -> None:
        ranked = fused([], candidates("a", "b", "a", "c"))

        assert [(one.memory_id, one.vector_rank) for one in ranked] == [
            ("a", 1),
            ("b", 2),
            ("c", 3),
        ]

    def test_settles_ties_by_similarity_and_then_by_id(self) -> None:
        near = Candidate("z", 0.9)
        ranked = fused([Candidate("y", 1), near], [near, Candidate("y", 0.1)])
        equal = fused(candidates("b"), [Candidate("a", 0.0)])

        assert [one.memory_id for one in ranked] == ["z", "y"]
        assert [one.memory_id for one in equal] == ["a", "b"]


class TestWeight:
    def test_hashed_words_settle_only_what_the_words_leave_open(self) -> None:
        weight = weight_of(["hashing-256-v1"])

        words = candidates(*"abcdefgh")
        ranked = fused(words, candidates("h", "c"), vector_weight=weight)

        assert weight == HASHING_WEIGHT < 1
        assert [one.memory_id for one in ranked] == list("cabdhefg")
        assert ranked[0].vector_part == pytest.approx(weight / 62)
        assert ranked[0].score == pytest.approx(ranked[0].text_part + ranked[0].vector_part)

    def test_a_models_vectors_count_as_much_as_words(self) -> None:
        assert weight_of(["hashing-256-v1", "text-embedding-3-small"]) == 1

    def test_the_model_from_the_wheel_stands_between_them(self) -> None:
        weight = weight_of(["wordllama-256"])

        assert HASHING_WEIGHT < weight < 1
        assert weight_of(["wordllama-256", "hashing-256-v1"]) == weight
        assert weight_of([]) == 1
