"""Building what the ledger announces: events and READY batches, with their Msg-Ids.

Everything is made from committed facts, so the same commit always gives the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from octarm.common.bus.publisher import Outgoing, trace_head
from octarm.models import hot
from octarm.models.ids import event_id
from octarm.models.subjects import (
    PLACE_TASKS,
    TASKS_ENDED,
    place_msg_id,
    shard_of,
    task_event_subject,
)

T = TypeVar("T")
MAX_READY_TASKS: Final = 64
MAX_READY_BYTES: Final = 512 * 1024
MAX_EVENT_RESULT_BYTES: Final = 64 * 1024
# CloudEvents 1.0, binary mode. Nothing in it was written by a user.
_HEAD: Final = (
    b"ce-specversion: 1.0\r\nce-id: %b\r\nce-type: octarm.%b\r\n"
    b"ce-source: octarm/orchestrator\r\nce-subject: %b\r\nce-time: %b\r\n"
    b"content-type: application/json\r\n%b"
)

_encode = msgspec.json.Encoder().encode
_PACK: Final = msgspec.msgpack.Encoder()
_UNPACK: Final = msgspec.msgpack.Decoder(list[tuple[str, bytes, str, bytes]])


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
) -> Outgoing:
    """Make one task event; its id and Msg-Id follow from (task, seq)."""
    kind = f"task.{verb}"
    own_id = event_id(task_id, seq)
    body = hot.TaskEvent(
        type=kind,
        event_id=own_id,
        occurred_at=at,
        task_id=task_id,
        tenant=tenant,
        seq=seq,
        attempt=attempt,
        traceparent=traceparent,
        **fields,
    )
    head = _HEAD % (
        own_id.encode(),
        kind.encode(),
        task_id.encode(),
        at.isoformat().encode(),
        trace_head(traceparent),
    )
    return Outgoing(task_event_subject(verb, tenant, task_id), _encode(body), own_id, head)


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
    return len(bytes(task.task)) + 512


def _batches(tasks: list[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    batch: list[T] = []
    size = 0
    for task in tasks:
        bytes_of_task = size_of(task)
        if batch and (len(batch) == MAX_READY_TASKS or size + bytes_of_task > MAX_READY_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += bytes_of_task
    if batch:
        yield batch


def ended(endings: list[Outgoing]) -> list[Outgoing]:
    """Put terminal events together for the services that want them all."""
    return [
        Outgoing(
            TASKS_ENDED.at(),
            b'{"events":[%b]}' % b",".join(message.payload for message in batch),
            f"n:{batch[0].msg_id}:{len(batch)}",
        )
        for batch in _batches(endings, lambda message: len(message.payload))
    ]


def result_for_event(body: bytes) -> dict[str, Any]:
    """Give the terminal event's `result` field, left out when it is too large."""
    return {"result": msgspec.Raw(body)} if len(body) <= MAX_EVENT_RESULT_BYTES else {}


def pack(messages: Iterable[Outgoing]) -> bytes:
    """Write messages as one outbox row."""
    return _PACK.encode([(m.subject, m.payload, m.msg_id, m.head) for m in messages])


def unpack(row: bytes) -> list[Outgoing]:
    """Read an outbox row."""
    return [
        Outgoing(subject, payload, msg_id, head)
        for subject, payload, msg_id, head in _UNPACK.decode(row)
    ]
