"""Dead letters as they stand in the DLQ stream, and where one may be sent back to.

The body is the message that could not be handled, byte for byte; a header says the rest. So
reading the list costs no payloads, and redriving sends what was there.
"""

import base64
import re
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec
from pydantic import ValidationError

from octarm.common.bus.delivery import Delivery
from octarm.common.bus.headers import encode_headers
from octarm.common.bus.publisher import Outgoing
from octarm.common.bus.topology import (
    MEMORY_EPISODES,
    MEMORY_WRITES,
    ORCHESTRATOR_DISPATCH,
    ORCHESTRATOR_INTAKE,
    ORCHESTRATOR_RESULTS,
    STREAMS,
    arm_durable,
    scheduler_durable,
)
from octarm.models import subjects as s
from octarm.models.events import DeadLetter
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.ids import is_name, is_task_id

LETTER: Final = "Octarm-Letter"
MSG_ID: Final = "Nats-Msg-Id"
FIRST_SEQ: Final = "Octarm-First-Seq"
FIRST_AT: Final = "Octarm-First-At"
REDRIVES: Final = "Octarm-Redrives"
FIRST_BYTES: Final = 1024
REASON_CHARS: Final = 1000
MAX_HEADERS: Final = 32
MAX_HEADER_CHARS: Final = 1000
MAX_SUBJECT_CHARS: Final = 512
# What NATS itself writes around a message: its Msg-Id and the names of the headers.
SLACK_BYTES: Final = 512
_STREAMS: Final = {
    ORCHESTRATOR_INTAKE: s.INTAKE,
    ORCHESTRATOR_RESULTS: s.RESULTS,
    ORCHESTRATOR_DISPATCH: s.DISPATCH,
    MEMORY_EPISODES: s.ENDED,
    MEMORY_WRITES: s.EPISODES,
}
_SUBMISSION: Final = s.SUBMIT_TASK.pattern.removesuffix("*")
_SCHEDULER: Final = re.compile(scheduler_durable(0).removesuffix("0") + r"(\d{1,2})")
_ARM: Final = re.compile(arm_durable("") + "(.+)")


def letter_of(delivery: Delivery, *, origin: str, reason: str, max_payload: int) -> Outgoing:
    """Write the dead letter of a delivery; the same delivery has the same Msg-Id for ever."""
    headers = _bounded(delivery.headers)
    tenant, task_id, attempt = _clues(delivery)
    letter = DeadLetter(
        origin=origin,
        subject=_plain(delivery.subject)[:MAX_SUBJECT_CHARS],
        stream_seq=delivery.stream_seq,
        deliveries=delivery.deliveries,
        published_at=delivery.published_at,
        reason=_plain(reason)[:REASON_CHARS],
        size_bytes=len(delivery.data),
        first_bytes=base64.b64encode(delivery.data[:FIRST_BYTES]).decode(),
        msg_id=headers.get(MSG_ID, ""),
        headers=headers,
        tenant=tenant,
        task_id=task_id,
        attempt=attempt,
        redrives=_number(headers.get(REDRIVES, "")),
    )
    room = max_payload - len(_head(letter)) - SLACK_BYTES
    letter, body = _packed(letter, delivery.data, room)
    return Outgoing(
        s.DEAD_LETTER.format(origin=origin), body, _msg_id("dlq", letter), _head(letter)
    )


def _packed(letter: DeadLetter, payload: bytes, room: int) -> tuple[DeadLetter, bytes]:
    if len(payload) <= room:
        return letter.model_copy(update={"kept": "whole"}), payload
    squeezed = zlib.compress(payload, 1)
    if len(squeezed) <= room:
        return letter.model_copy(update={"kept": "zlib"}), squeezed
    return letter, b""


def _head(letter: DeadLetter) -> bytes:
    return encode_headers({LETTER: letter.model_dump_json(ensure_ascii=True)})


def _msg_id(kind: str, letter: DeadLetter) -> str:
    # With the time of its publication: a stream that was made anew counts from 1 again.
    moment = int(letter.published_at.timestamp() * 1_000_000)
    return f"{kind}:{letter.origin}:{letter.stream_seq}:{moment}"


def read_letter(headers: Mapping[str, str], body: bytes) -> DeadLetter | None:
    """Read a message of the DLQ stream; None when it is no dead letter.

    One of the first version has no header; its body says what the header says now.
    """
    try:
        return DeadLetter.model_validate_json(headers.get(LETTER) or body)
    except ValidationError:
        return None


def payload_of(letter: DeadLetter, body: bytes) -> bytes | None:
    """Give what was delivered, None when it was not kept whole."""
    if letter.kept == "whole":
        return body
    if letter.kept == "cut":
        return None
    try:
        unpacker = zlib.decompressobj()
        payload = unpacker.decompress(body, letter.size_bytes + 1)
    except zlib.error:
        return None
    return payload if len(payload) == letter.size_bytes else None


def redriven(letter: DeadLetter, body: bytes) -> Outgoing | str:
    """Write the message anew for the subject it came on, or say why that cannot be.

    The Msg-Id follows from the letter. Where the message first stood in its stream travels in
    headers, because the ids of what it causes may follow from that.
    """
    payload = payload_of(letter, body)
    if payload is None:
        return "its payload was too large to be kept whole"
    if not may_return(letter.origin, letter.subject):
        return "its consumer does not read this subject"
    first = {
        FIRST_SEQ: letter.headers.get(FIRST_SEQ) or str(letter.stream_seq),
        FIRST_AT: letter.headers.get(FIRST_AT) or letter.published_at.isoformat(),
        REDRIVES: str(letter.redrives + 1),
    }
    head = encode_headers(letter.headers | first)
    return Outgoing(letter.subject, payload, _msg_id("redrive", letter), head)


def may_return(origin: str, subject: str) -> bool:
    """Whether a consumer reads a subject: a forged letter must not reach anything else."""
    if shard := _SCHEDULER.fullmatch(origin):
        return subject == s.PLACE_TASKS.at(shard=shard[1])
    if (arm := _ARM.fullmatch(origin)) and is_name(arm[1]):
        return subject == s.RUN_TASKS.at(arm_id=arm[1])
    stream = _STREAMS.get(origin)
    patterns = [pattern for spec in STREAMS if spec.name == stream for pattern in spec.subjects]
    return any(s.matches(pattern, subject) for pattern in patterns)


def first_place(delivery: Delivery) -> tuple[int, datetime]:
    """Say where a message first stood in its stream, and since when: of a redriven one too."""
    headers = delivery.headers
    if FIRST_SEQ in headers:
        try:
            return int(headers[FIRST_SEQ]), datetime.fromisoformat(headers[FIRST_AT])
        except (KeyError, ValueError):
            pass  # Somebody else wrote it: it stands where it stands.
    return delivery.stream_seq, delivery.published_at


class _Task(msgspec.Struct):
    task_id: str = ""
    attempt: int = 0
    tenant: str = ""


class _Content(_Task):
    task: _Task | None = None
    tasks: list[_Task] = []
    events: list[_Task] = []
    results: list[_Task] = []


_content = msgspec.json.Decoder(_Content).decode


def _clues(delivery: Delivery) -> tuple[str, str, int]:
    """Find out tenant, task and attempt, as far as the message has one of each."""
    subject_tenant = ""
    if delivery.subject.startswith(_SUBMISSION):
        subject_tenant = delivery.subject.removeprefix(_SUBMISSION)
    try:
        content = _content(delivery.data)
    except NOT_UNDERSTOOD:
        content = _Content()
    own = [content, *([content.task] if content.task else [])]
    among = [*own, *content.tasks, *content.events, *content.results]
    tenants = {subject_tenant or task.tenant for task in among} - {""}
    ids = {(task.task_id, task.attempt) for task in among if task.task_id and task.attempt}
    ids = ids or {(content.task_id, 0)}
    tenant = tenants.pop() if len(tenants) == 1 else ""
    task_id, attempt = ids.pop() if len(ids) == 1 else ("", 0)
    known = is_task_id(task_id) and 0 <= attempt < 2**31
    return tenant if is_name(tenant) else "", *((task_id, attempt) if known else ("", 0))


def _bounded(headers: Mapping[str, str]) -> dict[str, str]:
    some = list(headers.items())[:MAX_HEADERS]
    return {_plain(name)[:100]: _plain(value)[:MAX_HEADER_CHARS] for name, value in some if name}


def _plain(text: str) -> str:
    """Replace lone surrogates, which no JSON may hold."""
    return text.encode("utf-8", "replace").decode()


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else 0
