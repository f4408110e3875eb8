"""The JetStream API of the simulated bus: the requests that the product and its tests make."""

import base64
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.simulation.consumers import Consumer
from tests.simulation.streams import Refused, Stored, Stream

if TYPE_CHECKING:
    from tests.simulation.bus import SimBus

DEFAULTS: Final[dict[str, Any]] = {
    "retention": "limits",
    "discard": "old",
    "max_bytes": -1,
    "max_msgs": -1,
    "max_age": 0,
    "max_msgs_per_subject": -1,
    "duplicate_window": 120_000_000_000,
    "storage": "file",
}
Answer = tuple[bytes, bytes]
_encode = msgspec.json.Encoder().encode


def answer(bus: "SimBus", tokens: list[str], reply: str, data: bytes) -> Answer | None:
    """Answer a request with a header and a body; None: nothing is answered (now)."""
    try:
        body = _answer(bus, tokens, reply, msgspec.json.decode(data) if data else {})
    except Refused as refusal:
        if tokens[0] == "DIRECT":
            return f"NATS/1.0 {refusal.body['code']} {refusal.args[0]}\r\n\r\n".encode(), b""
        return b"", _encode({"type": "error", "error": refusal.body})
    if isinstance(body, Stored):
        return _direct(body, tokens[2])
    return None if body is None else (b"", _encode(body))


def _answer(
    bus: "SimBus", tokens: list[str], reply: str, asked: dict[str, Any]
) -> dict[str, Any] | Stored | None:
    match tokens:
        case ["STREAM", "CREATE" | "UPDATE", _]:
            return _put_stream(bus, asked)
        case ["STREAM", "INFO", name]:
            return _stream_info(bus, _stream(bus, name))
        case ["STREAM", "NAMES"]:
            return _names(bus, asked)
        case ["STREAM", "DELETE", name]:
            delete_stream(bus, name)
            return {"success": True}
        case ["STREAM", "PURGE", name]:
            which = asked.get("filter") or ">", asked.get("keep") or 0
            return {"success": True, "purged": _stream(bus, name).purge(*which)}
        case ["STREAM", "MSG", "GET", name]:
            return {"message": _message(_stream(bus, name).find(asked))}
        case ["STREAM", "MSG", "DELETE", name]:
            if not _stream(bus, name).remove(asked["seq"]):
                raise Refused(400, 10057, f"sequence {asked['seq']} not found")
            return {"success": True}
        case ["DIRECT", "GET", name, *subject]:
            wanted = {"last_by_subj": ".".join(subject)} if subject else asked
            return _stream(bus, name).find(wanted)
        case ["CONSUMER", "MSG", "NEXT", name, consumer]:
            found = bus.consumers.get((name, consumer))
            if found is not None:
                found.pull(reply, asked)
            return None
        case ["CONSUMER", verb, *rest]:
            return _consumer(bus, verb, rest, asked)
    raise Refused(400, 10025, f"the simulation does not know {tokens}")


def _stream(bus: "SimBus", name: str) -> Stream:
    stream = bus.streams.get(name)
    if stream is None:
        raise Refused(404, 10059, "stream not found")
    return stream


def _put_stream(bus: "SimBus", config: dict[str, Any]) -> dict[str, Any]:
    config = DEFAULTS | {key: value for key, value in config.items() if value is not None}
    known = bus.streams.get(config["name"])
    if known is None:
        known = bus.streams[config["name"]] = Stream(config, bus.now)
    else:
        known.config = config
    return _stream_info(bus, known)


def delete_stream(bus: "SimBus", name: str) -> None:
    """Remove a stream with everything in it and its consumers."""
    del bus.streams[_stream(bus, name).name]
    for key in [key for key in bus.consumers if key[0] == name]:
        bus.consumers.pop(key).delete()


def _names(bus: "SimBus", asked: dict[str, Any]) -> dict[str, Any]:
    subject = asked.get("subject", "")
    names = [s.name for s in bus.streams.values() if subject in s.subjects or s.takes(subject)]
    return {"streams": names, "total": len(names), "offset": 0, "limit": 1024}


def _stream_info(bus: "SimBus", stream: Stream) -> dict[str, Any]:
    consumers = sum(1 for name, _ in bus.consumers if name == stream.name)
    return {
        "config": stream.config,
        "created": "2026-11-21T12:00:00Z",
        "state": stream.state(consumers),
    }


def _message(message: Stored) -> dict[str, Any]:
    return {
        "subject": message.subject,
        "seq": message.seq,
        "data": base64.b64encode(message.data).decode(),
        "time": "2026-11-21T12:00:00Z",
        "hdrs": base64.b64encode(message.header).decode() if message.header else None,
    }


def _direct(message: Stored, stream: str) -> Answer:
    head = f"Nats-Stream: {stream}\r\nNats-Subject: {message.subject}\r\n"
    head += f"Nats-Sequence: {message.seq}\r\nNats-Time-Stamp: 2026-11-21T12:00:00Z\r\n"
    own = message.header[len(b"NATS/1.0\r\n") : -2] if message.header else b""
    return b"NATS/1.0\r\n" + head.encode() + own + b"\r\n", message.data


def _consumer(
    bus: "SimBus", verb: str, rest: list[str], asked: dict[str, Any]
) -> dict[str, Any] | None:
    if verb in ("CREATE", "DURABLE"):
        return _put_consumer(bus, asked)
    name, consumer = rest
    _stream(bus, name)
    found = bus.consumers.get((name, consumer))
    if found is None:
        raise Refused(404, 10014, "consumer not found")
    if verb == "INFO":
        return found.info()
    if verb == "DELETE":
        bus.consumers.pop((name, consumer)).delete()
        return {"success": True}
    raise Refused(400, 10025, f"the simulation does not know {verb}")


def _put_consumer(bus: "SimBus", asked: dict[str, Any]) -> dict[str, Any]:
    stream = _stream(bus, asked["stream_name"])
    config = {key: value for key, value in asked["config"].items() if value is not None}
    name = config.get("durable_name") or config.get("name") or f"e{bus.next_number()}"
    known = bus.consumers.get((stream.name, name))
    if known is not None:
        known.configure(config)
        return known.info()
    _must_be_alone(bus, stream, config)
    made = bus.consumers[stream.name, name] = Consumer(stream, name, config, bus)
    return made.info()


def _must_be_alone(bus: "SimBus", stream: Stream, config: dict[str, Any]) -> None:
    """On a work queue each message has one consumer."""
    if not stream.work_queue:
        return
    wanted = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
    for (name, _), other in bus.consumers.items():
        if name == stream.name and any(other.matches(subject) for subject in wanted):
            raise Refused(400, 10100, "filtered consumer not unique on workqueue stream")
