"""Building what the ledger announces: events and READY batches, with their Msg-Ids.

Everything is made from committed facts, so the same commit always gives the same bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.models import hot
from octarm.models.ids import event_id
from octarm.models.subjects import PLACE_TASKS, TASK_EVENT, place_msg_id, shard_of

MAX_READY_TASKS: Final = 64
MAX_READY_BYTES: Final = 512 * 1024
MAX_EVENT_RESULT_BYTES: Final = 64 * 1024
SOURCE: Final = "octarm/orchestrator"

_encode = msgspec.json.Encoder().encode
_PACK: Final = msgspec.msgpack.Encoder()
_UNPACK: Final = msgspec.msgpack.Decoder(list[tuple[str, bytes, str, dict[str, str]]])


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
    headers = {
        "ce-specversion": "1.0",
        "ce-id": own_id,
        "ce-type": f"octarm.{kind}",
        "ce-source": SOURCE,
        "ce-subject": task_id,
        "ce-time": at.isoformat(),
        "content-type": "application/json",
    }
    if traceparent:
        headers["traceparent"] = traceparent
    subject = TASK_EVENT.at(verb=verb, tenant=tenant, task_id=task_id)
    return Outgoing(subject, _encode(body), own_id, headers)


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
        for batch in _batches(all_tasks)
    ]


def _batches(tasks: list[hot.ReadyTask]) -> Iterator[list[hot.ReadyTask]]:
    batch: list[hot.ReadyTask] = []
    size = 0
    for task in tasks:
        bytes_of_task = len(bytes(task.task)) + 512
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
    """Write messages as one outbox row."""
    return _PACK.encode([(m.subject, m.payload, m.msg_id, _plain(m.headers)) for m in messages])


def unpack(row: bytes) -> list[Outgoing]:
    """Read an outbox row."""
    return [
        Outgoing(subject, payload, msg_id, headers)
        for subject, payload, msg_id, headers in _UNPACK.decode(row)
    ]


def _plain(headers: Mapping[str, str] | None) -> dict[str, str]:
    return dict(headers or {})
