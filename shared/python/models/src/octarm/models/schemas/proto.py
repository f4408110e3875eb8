"""Protocol Buffers (proto3) of every public model.

The canonical JSON of these messages is the JSON of the models, but for two things: a member of
a union stands under its own name (`oneof`), and 64-bit integers may be strings. Free JSON is
`google.protobuf.Value` or `Struct`, whose numbers are doubles.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from inspect import isclass
from types import ModuleType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, HttpUrl, JsonValue
from pydantic.fields import FieldInfo

from octarm.models.schemas.catalogue import MODULES, UNION_MODULE, UNIONS, models_of

PACKAGE: Final = "octarm.v1"
VALUE: Final = "google.protobuf.Value"
STRUCT: Final = "google.protobuf.Struct"
TIMESTAMP: Final = "google.protobuf.Timestamp"
_IMPORTS: Final = {VALUE: "struct", STRUCT: "struct", TIMESTAMP: "timestamp"}
_SCALARS: Final[dict[Any, str]] = {str: "string", bool: "bool", int: "int64", float: "double"}

Label = Literal["", "optional", "repeated"]


@dataclass(frozen=True, slots=True)
class ProtoField:
    """One field; `tag` is what the discriminator of a union says for it."""

    name: str
    type: str
    label: Label = ""
    tag: str = ""
    doc: str = ""

    @property
    def signature(self) -> str:
        """What must never change under one number: how the field lies on the wire."""
        repeated = "repeated " if self.label == "repeated" else ""
        return f"{repeated}{self.type} {self.name}"


@dataclass(frozen=True, slots=True)
class ProtoMessage:
    """One message; the fields of a union are alternatives."""

    name: str
    doc: str
    fields: tuple[ProtoField, ...]
    union: bool = False


def messages_of(module: ModuleType) -> list[ProtoMessage]:
    """Give the messages of a module: its unions, then its models."""
    unions = [_union(name) for name, home in UNION_MODULE.items() if home is module]
    return unions + [message_of(model) for model in models_of(module)]


def all_messages() -> dict[str, ProtoMessage]:
    """Give every message by its name."""
    return {message.name: message for module in MODULES for message in messages_of(module)}


def file_of(module: ModuleType) -> str:
    """Name the file that a module becomes, as an import spells it."""
    return f"octarm/v1/{module.__name__.rpartition('.')[2]}.proto"


def message_of(model: type[BaseModel]) -> ProtoMessage:
    """Translate one model.

    Raises:
        TypeError: a field's type has no counterpart.
    """
    fields = tuple(_field(name, info) for name, info in model.model_fields.items())
    return ProtoMessage(model.__name__, _first_line(model.__doc__), fields)


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def _field(name: str, info: FieldInfo) -> ProtoField:
    label, kind = _type(info.annotation)
    if label == "" and not info.is_required() and kind in _SCALARS.values():
        # Absent must stay different from zero, for the default is not always zero.
        label = "optional"
    return ProtoField(name, kind, label, doc=info.description or "")


def _type(annotation: Any) -> tuple[Label, str]:
    """Translate an annotation; a map counts as a type of its own."""
    plain = _bare(annotation)
    origin, args = get_origin(plain), get_args(plain)
    if origin in (list, frozenset):
        return "repeated", _type(args[0])[1]
    if origin is dict:
        value = _type(args[1])[1]
        return "", STRUCT if value == VALUE else f"map<string, {value}>"
    if origin in (Union, UnionType):
        (only,) = [member for member in args if member is not type(None)]
        label, kind = _type(only)
        return ("optional" if not label and kind in _SCALARS.values() else label), kind
    return "", _single(plain, origin)


def _bare(annotation: Any) -> Any:
    """Take the constraints off; a union with a name of its own becomes that name."""
    for name, union in UNIONS.items():
        if annotation == union:
            return name
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _single(kind: Any, origin: Any) -> str:
    if isinstance(kind, str):
        return kind
    if kind is JsonValue or isinstance(kind, TypeVar):
        return VALUE
    if origin is Literal or kind is HttpUrl or (isclass(kind) and issubclass(kind, StrEnum)):
        return "string"
    if kind is AwareDatetime:
        return TIMESTAMP
    if kind in _SCALARS:
        return _SCALARS[kind]
    if not issubclass(kind, BaseModel):
        raise TypeError(f"{kind} has no counterpart in Protocol Buffers")
    name: str = kind.__name__
    return name


def _union(name: str) -> ProtoMessage:
    fields = [_alternative(member) for member in _members(UNIONS[name])]
    return ProtoMessage(name, "Exactly one of these.", tuple(fields), union=True)


def _members(union: Any) -> Iterator[Any]:
    bare = get_args(union)[0] if get_origin(union) is Annotated else union
    if get_origin(bare) not in (Union, UnionType):
        yield bare
        return
    for member in get_args(bare):
        yield from _members(member)


def _alternative(member: Any) -> ProtoField:
    if member is str:
        return ProtoField("text", "string")
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", member.__name__).lower()
    tags = (get_args(info.annotation) for info in member.model_fields.values())
    tag = next(args[0] for args in tags if args and isinstance(args[0], str))
    return ProtoField(snake, member.__name__, tag=tag, doc=_first_line(member.__doc__))


def imports_of(messages: list[ProtoMessage], own: str, homes: dict[str, str]) -> list[str]:
    """List the files whose messages these use."""
    words = {
        word
        for message in messages
        for field in message.fields
        for word in re.findall(r"[\w.]+", field.type)
    }
    google = {f"google/protobuf/{_IMPORTS[word]}.proto" for word in words if word in _IMPORTS}
    return sorted(google | {homes[word] for word in words if word in homes} - {own})
