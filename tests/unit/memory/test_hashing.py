"""Vectors without a model."""

from math import isclose

import pytest

from octarm.memory.domain.hashing import hashed
from octarm.memory.domain.sameness import cosine


class TestHashed:
    def test_is_the_same_for_ever(self) -> None:
        vector = hashed("Squids have three hearts.")

        assert len(vector) == 256
        assert {place: round(part, 4) for place, part in enumerate(vector) if abs(part) > 0.25} == {
            133: 0.4851,
            151: 0.4851,
            245: 0.4851,
        }

    @pytest.mark.parametrize("text", ["", "…", "the", "a" * 50_000, "ß 漢字 😀", "\x00"])
    def test_points_somewhere_whatever_the_text(self, text: str) -> None:
        vector = hashed(text)

        assert isclose(sum(part * part for part in vector), 1.0)

    def test_brings_kindred_texts_nearer(self) -> None:
        question = hashed("which port does the gateway listen on")
        right = hashed("The gateway listens on port 8080 by default.")
        wrong = hashed("Episodes stay in Redis for an hour.")

        assert cosine(question, right) > cosine(question, wrong) + 0.2

    def test_survives_features_that_cancel_out(self) -> None:
        assert isclose(sum(part * part for part in hashed("anything", dimension=1)), 1.0)
