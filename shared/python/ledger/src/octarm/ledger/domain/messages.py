"""Building what the ledger announces: events and READY batches, with their Msg-Ids.

Everything is made from committed facts, so the same commit always gives the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

import lz4.block
import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.models import hot
from octarm.models.events import TERMINAL_VERBS
from octarm.models.ids import ALPHABET, PAIRS, event_stem
from octarm.models.subjects import (
    MOVED,
    PLACE_TASKS,
    TASK_EVENTS,
    TASKS_ENDED,
    event_bucket,
    place_msg_id,
    shard_of,
    what_of,
)

T = TypeVar("T")
MAX_READY_TASKS: Final = 64
MAX_READY_BYTES: Final = 512 * 1024
MAX_EVENT_RESULT_BYTES: Final = 64 * 1024
# CloudEvents 1.0, binary mode. Nothing in it was written by a user.
_HEAD: Final = (
    b"ce-specversion: 1.0\r\nce-id: %b\r\nce-type: octarm.tasks.%b\r\n"
    b"ce-source: octarm/orchestrator\r\nce-subject: %b\r\nce-time: %b\r\n"
    b"content-type: application/json\r\n"
)

_EVENTS: Final = TASK_EVENTS.template.partition(".{")[0]
_encode = msgspec.json.Encoder().encode
_PACK: Final = msgspec.msgpack.Encoder()
_UNPACK: Final = msgspec.msgpack.Decoder(list[tuple[str, bytes, str, bytes]])


class Told(msgspec.Struct, gc=False):
    """One task event, encoded; `seq` is its number among those of its task."""

    verb: str
    tenant: str
    task_id: str
    seq: int
    at: datetime
    body: bytes
    group: str
    """Its kind, tenant and bucket, as its subject ends."""


Fields = tuple[str, bytes]
"""An event's verb and its own fields: how its JSON ends, from the comma before the first on."""
NO_FIELDS: Final = b"}"


def event(
    verb: str,
    *,
    task_id: str,
    tenant: str,
    seq: int,
    attempt: int,
    at: datetime,
    traceparent: str = "",
    **fields: Any,
) -> Told:
    """Make one task event; its id follows from (task, seq)."""
    known = {name: value for name, value in fields.items() if value is not None}
    (told,) = story(
        ((verb, fields_of(known)),),
        task_id=task_id,
        tenant=tenant,
        first_seq=seq,
        attempt=attempt,
        at=at,
        traceparent=traceparent,
    )
    return told


def fields_of(known: Mapping[str, Any]) -> bytes:
    """Write an event's own fields."""
    return b"," + _encode(known)[1:] if known else NO_FIELDS


def story(
    parts: Iterable[Fields],
    *,
    task_id: str,
    tenant: str,
    first_seq: int,
    attempt: int,
    at: datetime,
    traceparent: str = "",
) -> list[Told]:
    """Make the events of one task's attempt that one commit tells, in order.

    Hot: what every event has is written by hand. It comes from the ledger, where ids, names and
    traces have been checked to be plain words; everything else goes through the encoder.
    """
    trace = f',"traceparent":"{traceparent}"' if traceparent else ""
    about = f'","occurred_at":"{_text(at)}","task_id":"{task_id}","tenant":"{tenant}","seq":'
    rest = f',"attempt":{attempt}{trace}'
    where = f".{tenant}.{event_bucket(task_id)}"
    stem, last = event_stem(task_id)
    told = []
    for seq, (verb, fields) in enumerate(parts, first_seq):
        own = last ^ (seq & 0x7FFF)
        head = (
            f'{{"type":"task.{verb}","event_id":"{stem}{ALPHABET[own >> 10]}{PAIRS[own & 1023]}'
            f"{about}{seq}{rest}"
        )
        told.append(
            Told(verb, tenant, task_id, seq, at, head.encode() + fields, what_of(verb) + where)
        )
    return told


@lru_cache(256)
def _text(at: datetime) -> str:
    # The events of one commit share their time.
    return at.isoformat()


def history(events: Iterable[Told]) -> list[Outgoing]:
    """Put the events of one commit into messages, by tenant and bucket.

    What moved a task goes before what ended it. Terminal events travel once more, together,
    for the services that want them all; each time near the first, where compression finds it.
    """
    groups: dict[str, list[Told]] = {}
    for told in events:
        group = groups.get(told.group)
        if group is None:
            groups[told.group] = [told]
        else:
            group.append(told)
    messages: list[Outgoing] = []
    endings: list[Told] = []
    for key in sorted(groups, key=_moves_first):
        subject = f"{_EVENTS}.{key}"
        for batch in _batches(groups[key], _bytes_told):
            messages.append(_bundle(subject, batch, "h", _head(batch)))
            endings += [told for told in batch if told.verb in TERMINAL_VERBS]
            if len(endings) >= MAX_READY_TASKS:
                messages += _endings(endings[:MAX_READY_TASKS])
                del endings[:MAX_READY_TASKS]
    return messages + _endings(endings)


def _endings(endings: list[Told]) -> list[Outgoing]:
    subject = TASKS_ENDED.template
    return [_bundle(subject, batch, "n", b"") for batch in _batches(endings, _bytes_told)]


def _moves_first(key: str) -> bool:
    return not key.startswith(MOVED)


def _bytes_told(told: Told) -> int:
    return len(told.body)


def _bundle(subject: str, batch: list[Told], prefix: str, head: bytes) -> Outgoing:
    return Outgoing(
        subject,
        b'{"events":[%b]}' % b",".join([told.body for told in batch]),
        _msg_id(prefix, batch),
        head,
    )


def _msg_id(prefix: str, batch: list[Told]) -> str:
    return f"{prefix}:{batch[0].task_id}:{batch[0].seq}:{len(batch)}"


def _head(batch: list[Told]) -> bytes:
    first = batch[0]
    return _HEAD % (
        _msg_id("h", batch).encode(),
        what_of(first.verb).encode(),
        first.tenant.encode(),
        first.at.isoformat().encode(),
    )


def ready(tasks: Iterable[hot.ReadyTask], *, shards: int) -> list[Outgoing]:
    """Make READY messages: by shard, at most 64 tasks and 512 KiB each."""
    by_shard: dict[int, list[hot.ReadyTask]] = {}
    for task in tasks:
        by_shard.setdefault(shard_of(task.tenant, task.task_id, shards), []).append(task)
    return [
        Outgoing(
            PLACE_TASKS.at(shard=shard),
            _encode(hot.PlaceTasks(batch)),
            f"{place_msg_id(batch[0].task_id, batch[0].attempt)}:{len(batch)}",
        )
        for shard, all_tasks in by_shard.items()
        for batch in _batches(all_tasks, _bytes_of)
    ]


def _bytes_of(task: hot.ReadyTask) -> int:
    return len(task.task) + 512


def _batches(tasks: list[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    if len(tasks) <= MAX_READY_TASKS and sum(map(size_of, tasks)) <= MAX_READY_BYTES:
        if tasks:
            yield tasks
        return
    batch: list[T] = []
    size = 0
    for task in tasks:
        bytes_of_task = size_of(task)
        if batch and (len(batch) == MAX_READY_TASKS or size + bytes_of_task > MAX_READY_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += bytes_of_task
    yield batch


def result_for_event(body: bytes) -> dict[str, Any]:
    """Give the terminal event's `result` field, left out when it is too large."""
    return {"result": msgspec.Raw(body)} if len(body) <= MAX_EVENT_RESULT_BYTES else {}


def pack(messages: Iterable[Outgoing]) -> bytes:
    """Write messages as one outbox row.

    Compressed: they are much alike, and what a row holds is copied by the driver, the server,
    its log and its table. LZ4 takes below 1 µs a task for a sixth of the bytes.
    """
    plain = _PACK.encode([(m.subject, m.payload, m.msg_id, m.head) for m in messages])
    return bytes(lz4.block.compress(plain))


def unpack(row: bytes) -> list[Outgoing]:
    """Read an outbox row."""
    return [
        Outgoing(subject, payload, msg_id, head)
        for subject, payload, msg_id, head in _UNPACK.decode(lz4.block.decompress(row))
    ]
