"""Hypothesis strategies for messages, read from the JSON Schema of their model."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

Schema = dict[str, Any]
SMALL = 2

FREE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31), timezones=ZONES).map(
    lambda time: time.isoformat()
)


def json_of(model: type[BaseModel], given: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Give values that the model's schema allows; validators may still refuse some.

    `given` has the values for models, by name, that are not worth generating.
    """
    schema = model.model_json_schema()
    known = {name: {"enum": [value]} for name, value in given.items()}
    return _value(schema, schema.get("$defs", {}) | known)


def _value(schema: Schema, definitions: Schema) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _value(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        return st.one_of([_value(one, definitions) for one in alternatives])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    kinds: dict[str, Callable[[Schema, Schema], st.SearchStrategy[Any]]] = {
        "string": _string,
        "integer": lambda s, _: st.integers(s.get("minimum", -(2**53)), s.get("maximum", 2**53)),
        "number": _number,
        "boolean": lambda _, __: st.booleans(),
        "null": lambda _, __: st.none(),
        "array": _array,
        "object": _object,
    }
    return kinds[schema["type"]](schema, definitions) if "type" in schema else FREE


def _string(schema: Schema, _: Schema) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return TIMES
    if schema.get("format") == "uri":
        return st.just("https://arms.example/x")
    if "pattern" in schema and schema["pattern"] != r"^[^\x00]*$":
        return _matching(schema["pattern"], schema.get("maxLength", 64))
    letters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    return st.text(letters, min_size=schema.get("minLength", 0), max_size=20)


def _matching(pattern: str, longest: int) -> st.SearchStrategy[str]:
    # Short repeats draw fast; Python's `$` lets a line feed pass at the end.
    short = re.sub(r"(?<!\\)\+", "{1,8}", re.sub(r"(?<!\\)\*", "{0,3}", pattern[:-1]))
    exact: st.SearchStrategy[str] = st.from_regex(re.compile(short + r"\Z", re.ASCII))
    return exact.filter(lambda text: len(text) <= longest)


def _number(schema: Schema, _: Schema) -> st.SearchStrategy[float]:
    return st.floats(
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum"),
        exclude_min="exclusiveMinimum" in schema,
        allow_nan=False,
        allow_infinity=False,
    )


def _array(schema: Schema, definitions: Schema) -> st.SearchStrategy[list[Any]]:
    least = schema.get("minItems", 0)
    most = min(max(least, SMALL), schema.get("maxItems", SMALL))
    items = _value(schema["items"], definitions)
    unique = repr if schema.get("uniqueItems") else None
    return st.lists(items, min_size=least, max_size=most, unique_by=unique)


def _object(schema: Schema, definitions: Schema) -> st.SearchStrategy[dict[str, Any]]:
    if "properties" not in schema:
        keys = schema.get("propertyNames", {"type": "string"})
        values = schema.get("additionalProperties")
        return st.dictionaries(
            _value(keys, definitions),
            _value(values if isinstance(values, dict) else {}, definitions),
            max_size=SMALL,
        )
    required = schema.get("required", [])
    parts = {name: _value(part, definitions) for name, part in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: part for name, part in parts.items() if name in required},
        optional={name: part for name, part in parts.items() if name not in required},
    )
