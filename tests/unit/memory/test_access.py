"""Diodes: what an arm may read and write."""

import pytest
from pydantic import ValidationError

from octarm.memory.domain.access import Access, Diodes, Scope, narrowed, shown
from octarm.memory.usecases.pacing import MAX_BUCKETS, Pace
from octarm.models.errors import Backpressure
from octarm.models.semantic import MemoryFilter, SemanticMemory
from tests.support.semantic import NOON, a_memory_id


class TestDiodes:
    def test_an_arm_is_held_to_its_own_entry_else_to_that_of_all(self) -> None:
        own, all_others = Access(write=None), Access(read=None)
        diodes = Diodes({"writer": own, "*": all_others})

        assert diodes.of("writer", "acme") == own
        assert diodes.of("reader", "acme") == all_others
        assert Diodes({}).of("reader", "acme") == Access()
        assert diodes.of(None, "acme") == Access()

    def test_of_another_tenant_it_may_do_nothing(self) -> None:
        diodes = Diodes({"writer": Access(tenants=frozenset({"acme"}))})

        assert diodes.of("writer", "acme").read is not None
        assert diodes.of("writer", "other") == Access(read=None, write=None)

    def test_a_declaration_that_is_misspelt_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            Access.model_validate({"reed": None})
        with pytest.raises(ValidationError):
            Access.model_validate({"read": {"entity_types": ["secret"]}})


class TestScope:
    def test_is_read_by_one_tag_and_written_with_no_others(self) -> None:
        scope = Scope(
            entity_types=frozenset({"fact"}),
            tags=frozenset({"sea", "ink"}),
            not_tags=frozenset({"secret"}),
        )

        assert scope.has("fact", ["sea", "blue"])
        assert not scope.takes("fact", ["sea", "blue"])
        assert scope.takes("fact", ["sea", "ink"])
        assert not scope.takes("fact", [])
        assert not scope.has("fact", ["sea", "secret"])
        assert not scope.has("task", ["sea"])
        assert Scope().takes("task", ["anything"])

    def test_narrows_what_is_asked_for(self) -> None:
        scope = Scope(entity_types=frozenset({"fact", "task"}), tags=frozenset({"b", "a"}))

        both = narrowed(MemoryFilter(entity_types=["fact", "artifact"], tags=["sea"]), scope)
        all_types = narrowed(MemoryFilter(), scope)
        free = narrowed(MemoryFilter(entity_types=["fact"]), Scope())
        freest = narrowed(MemoryFilter(), Scope(not_tags=frozenset({"c"})))

        assert narrowed(MemoryFilter(entity_types=["artifact"]), scope) is None
        assert both is not None
        assert (both.entity_types, both.tags, both.any_tags) == (("fact",), ("sea",), ("a", "b"))
        assert all_types is not None
        assert all_types.entity_types == ("fact", "task")
        assert free is not None
        assert (free.entity_types, free.any_tags, free.no_tags) == (("fact",), None, ())
        assert freest is not None
        assert (freest.entity_types, freest.no_tags) == (None, ("c",))


def test_only_properties_that_are_allowed_are_shown() -> None:
    memory = SemanticMemory(
        memory_id=a_memory_id(),
        tenant="acme",
        entity_type="fact",
        content="x",
        metadata={"page": 1, "author": "ann"},
        source="writer",
        timestamp=NOON,
        confidence=1.0,
    )

    assert shown(memory, Access()) is memory
    assert shown(memory, Access(properties=frozenset({"page"}))).metadata == {"page": 1}


class TestPace:
    def test_lets_so_many_a_minute_and_ten_seconds_worth_at_once(self) -> None:
        now = 0.0
        pace = Pace(lambda: now)
        for _ in range(2):
            pace.take("acme", "reader", 12)
        with pytest.raises(Backpressure) as refused:
            pace.take("acme", "reader", 12)
        pace.take("other", "reader", 12)

        now = 5.0
        pace.take("acme", "reader", 12)

        assert refused.value.code == "RATE_LIMITED"
        assert refused.value.retry_after_s == 5
        with pytest.raises(Backpressure):
            pace.take("acme", "reader", 12)

    def test_remembers_a_bounded_number(self) -> None:
        pace = Pace(lambda: 0.0)
        pace.take("acme", "first", 6)
        for number in range(MAX_BUCKETS):
            pace.take("acme", f"a{number}", 6)

        pace.take("acme", "first", 6)
