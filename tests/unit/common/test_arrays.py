"""Arrays are packed as psycopg packs them, only faster."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.numeric import Int4, Int8

from octarm.common.storage.arrays import (
    Array,
    Bools,
    Byteas,
    Float8s,
    Int4s,
    Int8s,
    Texts,
    Timestamps,
    Utf8s,
    array,
    packed,
)

TIMES = st.datetimes(timezones=st.just(UTC), min_value=datetime(1900, 1, 1))
CASES: list[tuple[type[Array], st.SearchStrategy[Any]]] = [
    (Texts, st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
    (Byteas, st.binary()),
    (Int4s, st.integers(-(2**31), 2**31 - 1).map(Int4)),
    (Int8s, st.integers(-(2**63), 2**63 - 1).map(Int8)),
    (Float8s, st.floats(allow_nan=False)),
    (Bools, st.booleans()),
    (Timestamps, TIMES),
]


def by_psycopg(values: Sequence[Any]) -> bytes:
    """The same list as psycopg sends it."""
    dumped = Transformer().get_dumper(list(values), PyFormat.BINARY).dump(list(values))
    return bytes(dumped or b"")


@pytest.mark.parametrize(("kind", "elements"), CASES)
@given(data=st.data())
def test_packs_as_psycopg_does(
    kind: type[Array], elements: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    values = data.draw(st.lists(elements | st.none(), min_size=1, max_size=5))
    values.append(data.draw(elements))

    assert array(kind, values) == by_psycopg(values)


def test_packs_alike_what_is_text_and_what_is_encoded_already() -> None:
    assert array(Utf8s, [b"a", None, "ä".encode()]) == array(Texts, ["a", None, "ä"])


def test_packs_rows_by_column() -> None:
    assert packed((Texts, Int4s), [("a", 1), ("b", 2)]) == [
        array(Texts, ["a", "b"]),
        array(Int4s, [1, 2]),
    ]


def test_no_rows_are_empty_arrays() -> None:
    assert packed((Texts, Int4s), []) == [array(Texts, []), array(Int4s, [])]
    assert len(array(Texts, [])) == 12
