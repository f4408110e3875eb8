"""Columns as Postgres arrays in their binary form, each packed at once.

A statement over `unnest` of arrays writes hundreds of rows, and psycopg adapts every element on
its own: for twenty columns that takes longer than writing the row. The form is that of
`array_recv` (PostgreSQL, src/backend/utils/adt/arrayfuncs.c).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from struct import Struct
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format

_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_head: Final = Struct(">iiIii").pack
_empty: Final = Struct(">iiI").pack
_length: Final = Struct(">i").pack
_int4: Final = Struct(">ii").pack
_int8: Final = Struct(">iq").pack
_float8: Final = Struct(">id").pack
_BOOLS: Final = {True: b"\0\0\0\1\1", False: b"\0\0\0\1\0"}


class Array(bytes):
    """An array as the server reads it; its class says of what."""

    array_oid = 0
    element_oid = 0


class Texts(Array):
    """`text[]`."""

    array_oid, element_oid = 1009, 25


class Utf8s(Array):
    """`text[]` of what is encoded already."""

    array_oid, element_oid = 1009, 25


class Byteas(Array):
    """`bytea[]`."""

    array_oid, element_oid = 1001, 17


class Int4s(Array):
    """`integer[]`."""

    array_oid, element_oid = 1007, 23


class Int8s(Array):
    """`bigint[]`."""

    array_oid, element_oid = 1016, 20


class Float8s(Array):
    """`double precision[]`."""

    array_oid, element_oid = 1022, 701


class Bools(Array):
    """`boolean[]`."""

    array_oid, element_oid = 1000, 16


class Timestamps(Array):
    """`timestamptz[]`."""

    array_oid, element_oid = 1185, 1184


def _text(value: str) -> bytes:
    return _bytea(value.encode())


def _bytea(value: bytes) -> bytes:
    return _length(len(value)) + value


def _timestamp(value: datetime) -> bytes:
    since = value - _EPOCH
    return _int8(8, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


_ELEMENTS: Final[dict[type[Array], Callable[[Any], bytes]]] = {
    Texts: _text,
    Utf8s: _bytea,
    Byteas: _bytea,
    Int4s: lambda value: _int4(4, value),
    Int8s: lambda value: _int8(8, value),
    Float8s: lambda value: _float8(8, value),
    Bools: _BOOLS.__getitem__,
    Timestamps: _timestamp,
}


def array(kind: type[Array], values: Sequence[Any]) -> Array:
    """Pack one column; None becomes null."""
    if not values:
        return kind(_empty(0, 0, kind.element_oid))
    element, number = _ELEMENTS[kind], len(values)
    first = values[0]
    if kind is not Float8s and values.count(first) == number:
        # Rows that are written together are much alike. (Of floats 0 equals -0.)
        body = (_NULL if first is None else element(first)) * number
        return kind(_head(1, first is None, kind.element_oid, number, 1) + body)
    parts = [_NULL if value is None else element(value) for value in values]
    return kind(_head(1, None in values, kind.element_oid, number, 1) + b"".join(parts))


def packed(kinds: Sequence[type[Array]], rows: Iterable[Sequence[Any]]) -> list[Array]:
    """Pack rows column by column, for `unnest` in this order."""
    by_column = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return [array(kind, values) for kind, values in zip(kinds, by_column, strict=True)]


def _dumper(kind: type[Array]) -> type[Dumper]:
    class ArrayDumper(Dumper):
        format = Format.BINARY
        oid = kind.array_oid

        def dump(self, obj: Any) -> bytes:
            return bytes(obj)

    return ArrayDumper


async def teach(connection: AsyncConnection[Any]) -> None:
    """Let a connection take arrays as parameters (`%b`)."""
    for kind in _ELEMENTS:
        connection.adapters.register_dumper(kind, _dumper(kind))
