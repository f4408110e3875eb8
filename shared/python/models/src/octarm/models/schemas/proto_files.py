"""The text of the `.proto` files, with field numbers that never change.

`field_numbers.json` remembers every number ever given. It only grows: a field that changes its
type gets a new number, one that goes leaves its number reserved.
"""

from types import ModuleType
from typing import Final

from octarm.models.schemas.catalogue import MODULES
from octarm.models.schemas.proto import (
    PACKAGE,
    ProtoField,
    ProtoMessage,
    file_of,
    imports_of,
    messages_of,
)

LOCK: Final = "octarm/v1/field_numbers.json"
# message → signature of the field → number
FieldNumbers = dict[str, dict[str, int]]


def grown(numbers: FieldNumbers) -> FieldNumbers:
    """Add a number for each field that has none; what is there stays."""
    result = {name: dict(fields) for name, fields in numbers.items()}
    for module in MODULES:
        for message in messages_of(module):
            fields = result.setdefault(message.name, {})
            for field in message.fields:
                fields.setdefault(field.signature, max(fields.values(), default=0) + 1)
    return dict(sorted(result.items()))


def proto_files(numbers: FieldNumbers) -> dict[str, str]:
    """Give the text of each file by its name; `numbers` knows every field."""
    homes = {message.name: file_of(module) for module in MODULES for message in messages_of(module)}
    return {file_of(module): _file(module, numbers, homes) for module in MODULES}


def _file(module: ModuleType, numbers: FieldNumbers, homes: dict[str, str]) -> str:
    messages = messages_of(module)
    imports = imports_of(messages, file_of(module), homes)
    head = [
        f"// Generated from {module.__name__} by `make schemas`; not to be edited.",
        'syntax = "proto3";',
        f"package {PACKAGE};",
        "\n".join(f'import "{name}";' for name in imports),
    ]
    bodies = [_message(message, numbers[message.name]) for message in messages]
    return "\n\n".join([part for part in head if part] + bodies) + "\n"


def _message(message: ProtoMessage, numbers: dict[str, int]) -> str:
    lines = [_field(field, numbers[field.signature]) for field in message.fields]
    if message.union:
        lines = ["  oneof value {", *(f"  {line}" for line in lines), "  }"]
    used = {field.signature for field in message.fields}
    gone = sorted(number for signature, number in numbers.items() if signature not in used)
    if gone:
        lines.append(f"  reserved {', '.join(map(str, gone))};")
    return "\n".join([f"// {message.doc}", f"message {message.name} {{", *lines, "}"])


def _field(field: ProtoField, number: int) -> str:
    label = f"{field.label} " if field.label else ""
    json_name = f' [json_name = "{field.name}"]' if "_" in field.name else ""
    doc = f"  // {field.doc}" if field.doc else ""
    return f"  {label}{field.type} {field.name} = {number}{json_name};{doc}"
