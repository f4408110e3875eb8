"""Check a client's JSON Schema, and answers against it, without reaching outside."""

from collections.abc import Mapping
from typing import Final, NoReturn

import jsonschema_rs
import msgspec
from pydantic import JsonValue

from octarm.models.errors import FieldError, InvalidRequest

MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 64
MAX_ERRORS: Final = 5
FIELD: Final = "constraints.output_schema"


class OutputSchema:
    """A JSON Schema (2020-12) that an answer must satisfy."""

    def __init__(self, schema: object) -> None:
        """
        Raises:
            InvalidRequest: it is no schema, too large or too deep, or refers to another document.
        """
        if not isinstance(schema, Mapping):
            raise refused("must be a JSON Schema object")
        self.text = msgspec.json.encode(schema).decode()
        if len(self.text.encode()) > MAX_SCHEMA_BYTES:
            raise refused(f"is larger than {MAX_SCHEMA_BYTES} bytes")
        if _deeper_than(schema, MAX_DEPTH):
            raise refused(f"is nested deeper than {MAX_DEPTH} levels")
        self.document: dict[str, JsonValue] = dict(schema)
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                self.document,
                retriever=_refuse_reference,
                # Linear in the input: a schema must not be able to hang the arm.
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise refused(str(error).splitlines()[0][:300]) from None

    def parse(self, text: str) -> tuple[JsonValue, list[str]]:
        """Return the JSON value of an answer and what is wrong with it; an empty list is fine."""
        try:
            value = msgspec.json.decode(_unfenced(text))
        except (msgspec.DecodeError, RecursionError) as error:
            return None, [f"it is not JSON: {error}"[:300]]
        found = []
        for fault in self._validator.iter_errors(value):
            found.append(f"/{'/'.join(map(str, fault.instance_path))}: {fault.message}"[:300])
            if len(found) == MAX_ERRORS:
                break
        return value, found


def refused(message: str) -> InvalidRequest:
    """Make the error for a schema that cannot be used."""
    return InvalidRequest(f"{FIELD} {message}", errors=[FieldError(field=FIELD, message=message)])


def _refuse_reference(uri: str) -> NoReturn:
    raise ValueError(f"{uri[:100]} lies outside the schema")


def _unfenced(text: str) -> str:
    """Take the code fence off that models like to put around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        return text.strip("`").removeprefix("json")
    return text


def _deeper_than(value: object, levels: int) -> bool:
    """Level by level, because a recursive check would itself overflow."""
    level = [value]
    for _ in range(levels):
        level = [
            child
            for item in level
            for child in (
                item.values()
                if isinstance(item, Mapping)
                else item
                if isinstance(item, list)
                else ()
            )
        ]
        if not level:
            return False
    return True
