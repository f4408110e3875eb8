"""What may be remembered and asked for."""

from typing import Any

import pytest
from pydantic import ValidationError

from octarm.models.semantic import MAX_DIMENSION, NewMemory, SearchMemory

pytestmark = pytest.mark.bad_input(27)
A_VECTOR: dict[str, Any] = {"embedding": [0.5, -0.25], "embedder": "hashing-256-v1"}


class TestVector:
    @pytest.mark.parametrize(
        "vector",
        [
            [],
            [0.0, 0.0],
            [1e-5] * 4,
            [float("nan"), 1.0],
            [float("inf"), 1.0],
            [1e9],
            ["1"],
            [1.0] * (MAX_DIMENSION + 1),
        ],
    )
    def test_that_points_nowhere_is_refused(self, vector: list[Any]) -> None:
        with pytest.raises(ValidationError, match="embedding"):
            NewMemory(content="x", embedding=vector, embedder="hashing-256-v1")
        with pytest.raises(ValidationError, match="embedding"):
            SearchMemory(tenant="acme", embedding=vector, embedder="hashing-256-v1")

    def test_goes_with_the_name_of_what_made_it(self) -> None:
        with pytest.raises(ValidationError, match="go together"):
            NewMemory(content="x", embedding=[1.0])
        with pytest.raises(ValidationError, match="go together"):
            SearchMemory(tenant="acme", query="x", embedder="hashing-256-v1")

        assert NewMemory(content="x", **A_VECTOR).embedding == [0.5, -0.25]


class TestSearch:
    @pytest.mark.parametrize("k", [0, -1, 10**9, 1.0, True, "5"])
    def test_takes_a_bounded_number_only(self, k: Any) -> None:
        with pytest.raises(ValidationError, match="k"):
            SearchMemory(tenant="acme", query="x", k=k)

    def test_must_ask_something(self) -> None:
        with pytest.raises(ValidationError, match="is needed"):
            SearchMemory(tenant="acme", query=" \n")
        with pytest.raises(ValidationError, match="is needed"):
            SearchMemory(tenant="acme", mode="text", **A_VECTOR)

        assert SearchMemory(tenant="acme", mode="vector", **A_VECTOR).query == ""

    @pytest.mark.parametrize("query", ["x" * 4001, "a\x00b"])
    def test_takes_a_bounded_text_that_can_be_stored(self, query: str) -> None:
        with pytest.raises(ValidationError, match="query"):
            SearchMemory(tenant="acme", query=query)


@pytest.mark.parametrize("content", ["", "x" * 100_001, "a\x00b"])
def test_a_memory_says_something_that_can_be_stored(content: str) -> None:
    with pytest.raises(ValidationError, match="content"):
        NewMemory(content=content)
