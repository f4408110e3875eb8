"""Python protobuf carries every message there and back."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc_tools import protoc

from octarm.models.schemas.catalogue import MODULES
from octarm.models.schemas.proto import ProtoField, all_messages, file_of, messages_of
from tests.support.messages import MODELS, golden, golden_names, model_of

PROTO = Path(__file__).parents[2] / "shared" / "proto"
MESSAGES = all_messages()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, type[Message]]]:
    """Compile the committed files; gives the Python class of each message by its name."""
    folder = tmp_path_factory.mktemp("protobuf")
    # The generated modules import each other from the top; the package octarm is ours here.
    google = Path(protoc.__file__).parent / "_proto"
    files = [str(PROTO / file_of(module)) for module in MODULES]
    assert protoc.main(["", f"-I{PROTO}", f"-I{google}", f"--python_out={folder}", *files]) == 0
    octarm = sys.modules["octarm"]
    before = list(octarm.__path__)
    octarm.__path__ = [*before, str(folder / "octarm")]
    try:
        yield {
            message.name: getattr(
                importlib.import_module(f"octarm.v1.{Path(file_of(module)).stem}_pb2"), message.name
            )
            for module in MODULES
            for message in messages_of(module)
        }
    finally:
        octarm.__path__ = before
        for name in [name for name in sys.modules if name.startswith("octarm.v1")]:
            del sys.modules[name]


@pytest.mark.parametrize("name", golden_names())
def test_a_message_comes_back_as_it_was(name: str, compiled: dict[str, type[Message]]) -> None:
    model = model_of(name)
    wanted = model.model_validate(golden(name))
    sent = compiled[model.__name__]()
    json_format.ParseDict(_to_proto(model.__name__, golden(name)), sent)

    received = compiled[model.__name__]()
    received.ParseFromString(sent.SerializeToString())
    values = json_format.MessageToDict(received, always_print_fields_with_no_presence=True)

    assert model.model_validate(_from_proto(model.__name__, values)) == wanted


def test_absent_fields_get_the_defaults_of_the_model(compiled: dict[str, type[Message]]) -> None:
    sent = compiled["TaskSubmission"](goal="Sum it up")

    values = json_format.MessageToDict(sent, always_print_fields_with_no_presence=True)
    model = model_of("TaskSubmission")

    assert model.model_validate(_from_proto("TaskSubmission", values)) == model.model_validate(
        {"goal": "Sum it up"}
    )


def _to_proto(name: str, value: Any) -> Any:
    """Put members of unions under their names."""
    message = MESSAGES[name]
    if message.union:
        field = next(field for field in message.fields if field.tag == _tag(value))
        return {field.name: _inner(_to_proto, field, value)}
    fields = {field.name: field for field in message.fields}
    return {key: _inner(_to_proto, fields[key], part) for key, part in value.items()}


def _from_proto(name: str, value: Any) -> Any:
    """Take members of unions out again, and 64-bit integers out of their strings."""
    message = MESSAGES[name]
    fields = {field.name: field for field in message.fields}
    if message.union:
        ((key, part),) = value.items()
        return _inner(_from_proto, fields[key], part)
    info = MODELS[name].model_fields
    return {
        key: _inner(_from_proto, fields[key], part)
        for key, part in value.items()
        # Protocol Buffers have no list that is not there.
        if part != [] or info[key].default is not None
    }


def _inner(translate: Any, field: ProtoField, value: Any) -> Any:
    if field.label == "repeated" and value is not None:
        return [_one(translate, field.type, part) for part in value]
    return _one(translate, field.type, value)


def _one(translate: Any, kind: str, value: Any) -> Any:
    if kind in MESSAGES and value is not None:
        return translate(kind, value)
    if kind == "map<string, int64>":
        return {key: int(number) for key, number in value.items()}
    return int(value) if kind == "int64" and isinstance(value, str) else value


def _tag(value: Any) -> str:
    return str(value.get("kind") or value["type"]) if isinstance(value, dict) else ""
