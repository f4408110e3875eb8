"""Ids are unique, ordered, derivable, and never more than one token of a subject."""

import re
import time
from itertools import product
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from octarm.models import ids

NOT_TOKENS = [
    "",
    "a.b",
    "*",
    ">",
    "a b",
    "a\tb",
    "a\r\nNats-Rollup: all",
    "a\n",
    "a\0b",
    "\U0001f600",
    "é",
    "a" * 300,
]
TSK = "tsk_01ka4z3v5we2t9r8q7p6n5m4k3"
KINDS = {
    "task id": TypeAdapter(ids.TaskId),
    "episode id": TypeAdapter(ids.EpisodeId),
    "memory id": TypeAdapter(ids.MemoryId),
    "event id": TypeAdapter(ids.EventId),
    "arm id": TypeAdapter(ids.ArmId),
    "tenant": TypeAdapter(ids.Tenant),
    "token": TypeAdapter(ids.Token),
}


class TestGrammar:
    @pytest.mark.parametrize(("kind", "text"), list(product(KINDS, NOT_TOKENS)))
    @pytest.mark.bad_input(6)
    def test_refuses_what_must_never_reach_a_subject(self, kind: str, text: str) -> None:
        with pytest.raises(ValidationError):
            KINDS[kind].validate_python(text)
        assert not ids.is_token(text)
        assert not ids.is_task_id(text)

    @pytest.mark.parametrize("text", [TSK[:-1], TSK + "0", TSK.upper(), "tsk_8" + TSK[5:], "evt_x"])
    def test_refuses_what_only_looks_like_a_task_id(self, text: str) -> None:
        assert not ids.is_task_id(text)

    @pytest.mark.parametrize("name", ["-a", "a-", "a--b", "A", "a_b", "a" * 64])
    def test_refuses_names_outside_the_grammar(self, name: str) -> None:
        with pytest.raises(ValidationError):
            KINDS["arm id"].validate_python(name)

    @given(st.text())
    def test_a_token_is_what_the_grammar_says(self, text: str) -> None:
        assert ids.is_token(text) == bool(re.fullmatch("[A-Za-z0-9_-]{1,64}", text))


class TestNewId:
    def test_is_a_task_id_of_now(self) -> None:
        before = time.time_ns() // 1_000_000
        new = ids.new_id("tsk")

        assert ids.is_task_id(new)
        assert before <= _unix_ms(new) <= time.time_ns() // 1_000_000

    def test_is_a_random_uuid_of_version_7(self) -> None:
        uuids = [UUID(int=_uuid(ids.new_id("tsk"))) for _ in range(1000)]

        assert {one.version for one in uuids} == {7}
        assert {one.variant for one in uuids} == {RFC_4122}
        seen_set = seen_unset = 0
        for one in uuids:
            seen_set |= one.int
            seen_unset |= ~one.int
        random_bits = (1 << 80) - 1 - (0xF << 76) - (0b11 << 62)
        assert seen_set & seen_unset & (1 << 80) - 1 == random_bits

    def test_differs_each_time(self) -> None:
        assert len({ids.new_id("tsk") for _ in range(1000)}) == 1000

    @given(st.integers(0, 2**128 - 1))
    def test_spells_every_uuid_in_its_order(self, uuid: int) -> None:
        text = ids.typeid("tsk", uuid)

        assert ids.is_task_id(text)
        assert _uuid(text) == uuid

    def test_follows_the_published_example(self) -> None:
        uuid = int("0110c8531d0952d8d73e1194e95b5f19", 16)

        assert ids.typeid("tsk", uuid) == "tsk_0123456789abcdefghjkmnpqrs"

    @given(st.integers(0, 2**48 - 1), st.integers(0, 2**80 - 1))
    def test_carries_version_and_variant(self, unix_ms: int, entropy: int) -> None:
        uuid = ids.uuid7(unix_ms, entropy)

        assert (uuid >> 80, uuid >> 76 & 15, uuid >> 62 & 3) == (unix_ms, 7, 2)


class TestDerivedId:
    def test_is_the_same_for_the_same_cause(self) -> None:
        first = ids.derived_id("tsk", "intake:42", unix_ms=1_000)

        assert first == ids.derived_id("tsk", "intake:42", unix_ms=1_000)
        assert first != ids.derived_id("tsk", "intake:43", unix_ms=1_000)
        assert ids.is_task_id(first)
        assert _unix_ms(first) == 1_000

    def test_of_another_kind_keeps_the_rest(self) -> None:
        assert ids.with_prefix("epi", TSK) == "epi_01ka4z3v5we2t9r8q7p6n5m4k3"


class TestEventId:
    def test_differs_for_every_event_of_a_task(self) -> None:
        found = {ids.event_id(TSK, seq) for seq in range(1, 2**15)}

        assert len(found) == 2**15 - 1
        for event in found:
            KINDS["event id"].validate_python(event)

    def test_is_the_same_for_the_same_event(self) -> None:
        assert ids.event_id(TSK, 3) == ids.event_id(TSK, 3)


_TO_BASE_32 = str.maketrans("0123456789abcdefghjkmnpqrstvwxyz", "0123456789abcdefghijklmnopqrstuv")


def _unix_ms(typeid: str) -> int:
    return _uuid(typeid) >> 80


def _uuid(typeid: str) -> int:
    return int(typeid[4:].translate(_TO_BASE_32), 32)
