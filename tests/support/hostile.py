"""Texts that somebody will send one day, in every place of a JSON Schema where a text may stand."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

Schema = dict[str, Any]
TEXTS: Final = {
    "NUL": "a\0b",
    "half of a surrogate pair": "a\ud800b",
    "very long": "x" * 200_000,
    "control characters": "a\x01\x08\x1b[31m\r\nb\x7f\x85",
    "no character": "a\uffff\ufdd0b",
    "emoji": "\U0001f991\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "right to left": "\u202egpj.exe\u202c\u200b\u2066",
}
_SAMPLES: Final = (
    *("one", "INTERNAL"),
    *(f"{kind}_01h455vb4pex5vsknk084sn02q" for kind in ("tsk", "epi", "mem")),
    *("2030-01-01T00:00:00Z", "https://arms.example/x", "1.0.0", "0" * 64, f"era_{'0' * 32}"),
)
_BY_FORMAT: Final = {"date-time": "^2030", "uri": "^https", "date": "^2030"}
Build = Callable[[str], Any]
Places = Iterator[tuple[str, Build]]


def places(schema: Schema, definitions: Schema, given: Mapping[str, Any]) -> Places:
    """Give each place where a text may stand, and what puts one there into a value else plain.

    `given` has the values, by the name of the field, that what is asked for must have to be found.
    """
    return _places(schema, _Known(definitions, given), frozenset())


class _Known:
    """The schemas that are referred to, and the values of fields that matter."""

    def __init__(self, definitions: Schema, given: Mapping[str, Any]) -> None:
        self.definitions = definitions
        self.given = given

    def plain_object(self, schema: Schema) -> dict[str, Any]:
        """Give an object of the fields that must be there."""
        parts = schema["properties"]
        return {name: self._field(name, parts[name]) for name in schema.get("required", ())}

    def _field(self, name: str, schema: Schema) -> Any:
        # One name may mean two things, such as the source of a policy and that of a memory.
        given = self.given.get(name)
        fits = given is not None and re.search(schema.get("pattern", ""), str(given))
        return given if fits else self.plain(schema)

    def plain(self, schema: Schema) -> Any:
        """Give the simplest value."""
        if "$ref" in schema:
            return self.plain(self.definitions[_name(schema)])
        if alternatives := schema.get("anyOf") or schema.get("oneOf"):
            return self.plain(alternatives[0])
        if "const" in schema or "enum" in schema:
            return schema["const"] if "const" in schema else schema["enum"][0]
        if "properties" in schema:
            return self.plain_object(schema)
        simplest: dict[str, Callable[[Schema], Any]] = {
            "string": _plain_text,
            "integer": lambda s: s.get("minimum", 0),
            "number": lambda s: s.get("minimum", s.get("exclusiveMinimum", -1) + 1),
            "boolean": lambda _: False,
            "array": lambda s: [self.plain(s["items"])] * s.get("minItems", 0),
            "object": lambda _: {},
        }
        kind = schema.get("type", "")
        return simplest[kind](schema) if kind in simplest else None


def _plain_text(schema: Schema) -> str:
    pattern = re.compile(schema.get("pattern", _BY_FORMAT.get(schema.get("format", ""), "")))
    sample = next((text for text in _SAMPLES if pattern.search(text)), None)
    assert sample is not None, f"give a sample of {pattern.pattern}"
    return sample


def _name(schema: Schema) -> str:
    name: str = schema["$ref"].rpartition("/")[2]
    return name


def _places(schema: Schema, known: _Known, within: frozenset[str]) -> Places:
    if "$ref" in schema:
        name = _name(schema)
        if name not in within:
            yield from _places(known.definitions[name], known, within | {name})
    for one in schema.get("anyOf") or schema.get("oneOf") or ():
        yield from _places(one, known, within)
    if schema.get("type") == "string":
        yield "", str
    elif schema.get("type") == "array":
        for where, build in _places(schema["items"], known, within):
            yield f"[]{where}", partial(_listed, build)
    elif "properties" in schema:
        yield from _in_fields(schema, known, within)
    elif schema.get("type") == "object" or not {"$ref", "anyOf", "oneOf", "type"} & schema.keys():
        yield from _in_free_json()


def _in_fields(schema: Schema, known: _Known, within: frozenset[str]) -> Places:
    plain = known.plain_object(schema)
    for name, part in schema["properties"].items():
        for where, build in _places(part, known, within):
            yield f".{name}{where}", partial(_with_field, plain, name, build)


def _in_free_json() -> Places:
    yield "{key}", lambda text: {text: 1}
    yield "{value}", lambda text: {"x": [{"y": text}]}


def _listed(build: Build, text: str) -> list[Any]:
    return [build(text)]


def _with_field(plain: dict[str, Any], name: str, build: Build, text: str) -> dict[str, Any]:
    return plain | {name: build(text)}
