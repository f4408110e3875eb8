"""What becomes of something that is to be remembered."""

from dataclasses import replace
from typing import Any

import pytest

from octarm.memory.domain.hashing import hashed
from octarm.memory.domain.sameness import content_hash, fact_key, says_the_same
from octarm.memory.domain.settling import (
    Create,
    Fresh,
    Held,
    Knowledge,
    Known,
    Merge,
    Outdated,
    Refused,
)
from tests.support.semantic import at

TEXT = "The ledger keeps every accepted task until it has ended and its result was told"


def fresh(memory_id: str = "m2", content: str = "x", **fields: Any) -> Fresh:
    made: dict[str, Any] = {
        "memory_id": memory_id,
        "entity_type": "fact",
        "content": content,
        "content_hash": bytes.fromhex(content_hash(content)),
        "metadata": "{}",
        "source": "writer",
        "found_at": at(5),
        "confidence": 1.0,
        "space": 1,
        "vector": hashed(content),
    }
    return Fresh(**made | fields)


def held(memory_id: str = "m1", content: str = "x", **fields: Any) -> Held:
    ends = {name: fields.pop(name) for name in ("superseded_by", "ended") if name in fields}
    return replace(fresh(memory_id, content, **fields).held(), **ends)


class TestById:
    def test_is_known_with_what_holds_instead(self) -> None:
        knowledge = Knowledge([held("m1", superseded_by="m9", ended="merged")])

        assert knowledge.settle(fresh("m1")) == Known("m1", "m9")

    def test_stands_for_one_content(self) -> None:
        settled = Knowledge([held("m1")]).settle(fresh("m1", "other"))

        assert isinstance(settled, Refused)
        assert settled.code == "ALREADY_EXISTS"


class TestNamed:
    def test_supersedes_what_it_names_and_the_holder_of_its_fact(self) -> None:
        knowledge = Knowledge([held("m1"), held("m0", "y", fact=b"f"), held("mX", "z", fact=b"g")])

        assert knowledge.settle(fresh(supersedes="m1")) == Create(("m1",))
        assert knowledge.settle(fresh(supersedes="m1", fact=b"f")) == Create(("m1", "m0"))
        assert knowledge.settle(fresh(supersedes="m0", fact=b"f")) == Create(("m0",))
        assert knowledge.settle(fresh(supersedes="m0", fact=b"h")) == Create(("m0",))

    def test_is_refused_when_that_is_missing_or_history(self) -> None:
        knowledge = Knowledge([held("m1")])
        knowledge.end("m1", by="m9", ended="superseded")

        missing, late = (
            knowledge.settle(fresh(supersedes="m0")),
            knowledge.settle(fresh(supersedes="m1")),
        )

        assert isinstance(missing, Refused)
        assert isinstance(late, Refused)
        assert (missing.code, late.code) == ("MEMORY_NOT_FOUND", "ALREADY_SUPERSEDED")


class TestFact:
    def test_holds_when_it_is_newer_and_is_history_when_not(self) -> None:
        knowledge = Knowledge([held("m1", "old", fact=b"f", found_at=at(5))])

        assert knowledge.settle(fresh(fact=b"f", found_at=at(6))) == Create(("m1",))
        assert knowledge.settle(fresh(fact=b"f", found_at=at(4))) == Outdated("m1")
        assert knowledge.settle(fresh("m2", fact=b"f", found_at=at(5))) == Create(("m1",))
        assert knowledge.settle(fresh("m0", fact=b"f", found_at=at(5))) == Outdated("m1")
        assert knowledge.settle(fresh("m2", "old", fact=b"f")) == Known("m1")
        assert knowledge.settle(fresh(fact=b"g")) == Create()


class TestRepeated:
    def test_is_known_of_the_same_source_and_merged_of_another(self) -> None:
        knowledge = Knowledge([held("m1")])

        assert knowledge.settle(fresh()) == Known("m1")
        assert knowledge.settle(fresh(source="reader")) == Merge("m1")
        assert knowledge.settle(fresh(source="reader", merge=False)) == Create()
        assert knowledge.settle(fresh(merge=False)) == Known("m1")
        assert knowledge.settle(fresh(merge=False, metadata='{"page":2}')) == Create()

    @pytest.mark.parametrize("differs", [{"entity_type": "task"}, {"tags": ("sea",)}])
    def test_of_another_type_or_with_other_tags_is_another(self, differs: dict[str, Any]) -> None:
        assert Knowledge([held("m1")]).settle(fresh(**differs)) == Create()

    def test_is_known_when_it_was_merged_before(self) -> None:
        merged = held("m1", superseded_by="m9", ended="merged", found_at=at(0))

        assert Knowledge([merged]).settle(fresh(vector=())) == Known("m1", "m9")

    def test_after_it_was_superseded_holds_again_only_when_it_is_newer(self) -> None:
        knowledge = Knowledge([held("m1", superseded_by="m9", ended="superseded", found_at=at(5))])

        assert knowledge.settle(fresh(found_at=at(5))) == Known("m1", "m9")
        assert knowledge.settle(fresh(found_at=at(6))) == Create()
        assert knowledge.settle(fresh(found_at=at(5), source="reader")) == Create()


class TestNear:
    def test_is_merged_unless_numbers_or_negations_differ(self) -> None:
        knowledge = Knowledge([])
        knowledge.add(held("m1", TEXT))

        assert knowledge.settle(fresh(content=TEXT + "!")) == Merge("m1")
        assert knowledge.settle(fresh(content=TEXT + "!", source="reader")) == Merge("m1")
        assert knowledge.settle(fresh(content=TEXT + " 7")) == Create()
        assert knowledge.settle(fresh(content=TEXT + " not")) == Create()
        assert knowledge.settle(fresh(content="Squids have ink")) == Create()

    @pytest.mark.parametrize(
        "differs",
        [
            {"entity_type": "task"},
            {"tags": ("sea",)},
            {"space": 2},
            {"merge": False},
            {"vector": ()},
        ],
    )
    def test_needs_the_same_kind_of_thing(self, differs: dict[str, Any]) -> None:
        knowledge = Knowledge([held("m1", TEXT)])

        assert knowledge.settle(fresh(content=TEXT + "!", **differs)) == Create()

    def test_of_another_source_must_be_nearer(self) -> None:
        assert says_the_same("a", "b", similarity=0.96, same_source=True)
        assert not says_the_same("a", "b", similarity=0.96, same_source=False)


class TestFactKey:
    def test_is_the_same_however_it_is_written(self) -> None:
        one = fact_key({"subject": " Gateway ", "predicate": "listens  on"})

        assert one == fact_key({"subject": "gateway", "predicate": "Listens on", "more": 1})
        assert one != fact_key({"subject": "gateway listens", "predicate": "on"})

    @pytest.mark.parametrize(
        "metadata",
        [
            {},
            {"subject": "x"},
            {"subject": "x", "predicate": 1},
            {"subject": " ", "predicate": "x"},
            {"subject": "x" * 1001, "predicate": "x"},
        ],
    )
    def test_needs_both_texts(self, metadata: dict[str, Any]) -> None:
        assert fact_key(metadata) is None
