"""The AsyncAPI 3.1 document of the bus, as an application on it sees the platform.

It sends commands and asks queries; it receives events, signs of life, control messages and
chunks. Payloads are the JSON Schemas next to the document.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from octarm.models import subjects
from octarm.models.events import DeadLetter
from octarm.models.schemas.catalogue import UNIONS
from octarm.models.schemas.json_schemas import FOLDER, file_name
from octarm.models.subjects import DEAD_LETTER, DLQ, Query, Subject

K = TypeVar("K")

_FORMAT: Final = "application/schema+json;version=draft-2020-12"
_PARAMETERS: Final = {
    "tenant": "Name of the tenant",
    "task_id": "Id of the task",
    "arm_id": "Id of the arm",
    "instance_id": "Id of the instance",
    "shard": "Number of the shard, 0 – 63",
    "verb": "Last part of the event's type",
    "what": "moved, completed, or stopped: every other end of an attempt or a task",
    "bucket": "CRC-32 of the task id modulo 8",
    "memory_id": "Id of the memory",
    "policy": "Id of the policy version",
    "origin": "Stream that the message came from",
}
_INFO: Final = {
    "title": "Octarm bus",
    "version": "1",
    "description": (
        "Subjects of NATS: octarm.v1.<kind>.<entity>.<verb>.<ids…>. Durable channels name "
        "their JetStream stream in x-jetstream-stream. Messages of OCTARM_EVENTS are "
        "CloudEvents 1.0 in binary mode: the attributes are headers with the prefix ce-."
    ),
    "license": {"name": "Apache-2.0"},
}


def asyncapi() -> dict[str, Any]:
    """Give the document; its references are relative to the folder that holds it."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, subject in _constants(Subject):
        message = _name(subject.message)
        channels[name] = _channel(subject.template, message, subject.stream)
        operations[name] = _operation(name, "send" if ".cmd." in subject.template else "receive")
    channels["deadLetter"] = _channel(DEAD_LETTER, DeadLetter.__name__, DLQ)
    operations["deadLetter"] = _operation("deadLetter", "receive")
    for name, query in _constants(Query):
        channels[name] = _channel(query.template, query.asks.__name__, None)
        channels[f"{name}Reply"] = _channel(None, f"{query.answers.__name__}Reply", None)
        reply = {"reply": {"channel": {"$ref": f"#/channels/{name}Reply"}}}
        operations[name] = _operation(name, "send") | reply
    return {
        "asyncapi": "3.1.0",
        "info": _INFO,
        "defaultContentType": "application/json",
        "servers": {"nats": {"host": "localhost:4222", "protocol": "nats"}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": _messages()},
    }


def _constants(kind: type[K]) -> Iterable[tuple[str, K]]:
    """Give the constants of `subjects` of this kind, their names in camelCase."""
    for name, value in vars(subjects).items():
        if isinstance(value, kind):
            first, *others = name.lower().split("_")
            yield first + "".join(word.title() for word in others), value


def _name(message: Any) -> str:
    return next((name for name, union in UNIONS.items() if message is union), None) or str(
        message.__name__
    )


def _channel(address: str | None, message: str, stream: str | None) -> dict[str, Any]:
    reference = {"$ref": f"#/components/messages/{message}"}
    parameters = re.findall(r"\{(\w+)\}", address or "")
    channel: dict[str, Any] = {"address": address, "messages": {message: reference}}
    if parameters:
        channel["parameters"] = {name: {"description": _PARAMETERS[name]} for name in parameters}
    if stream:
        channel["x-jetstream-stream"] = stream
    return channel


def _operation(channel: str, action: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _messages() -> dict[str, Any]:
    sent = [_name(subject.message) for _, subject in _constants(Subject)]
    asked = [query.asks.__name__ for _, query in _constants(Query)]
    plain = {name: _message(_file(name)) for name in (*sent, DeadLetter.__name__, *asked)}
    replies = {
        f"{query.answers.__name__}Reply": _message(_reply(query.answers.__name__))
        for _, query in _constants(Query)
    }
    letter = {DeadLetter.__name__: _dead_letter()}
    return dict(sorted((plain | replies | letter).items()))


def _dead_letter() -> dict[str, Any]:
    """The body is whatever could not be handled; a header holds the letter as JSON."""
    schema = {"$ref": _file(DeadLetter.__name__)["$ref"]}
    letter = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
    headers = {"type": "object", "properties": {"Octarm-Letter": letter}}
    return {"contentType": "application/octet-stream", "headers": headers, "payload": {}}


def _message(schema: dict[str, Any]) -> dict[str, Any]:
    return {"payload": {"schemaFormat": _FORMAT, "schema": schema}}


def _file(name: str) -> dict[str, Any]:
    return {"$ref": f"./{FOLDER}/{file_name(name)}"}


def _reply(answer: str) -> dict[str, Any]:
    return {
        "description": "The answer or a problem, never both.",
        "type": "object",
        "properties": {"ok": _file(answer), "problem": _file("Problem")},
        "minProperties": 1,
    }
