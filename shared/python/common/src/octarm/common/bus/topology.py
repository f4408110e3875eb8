"""Streams, consumers and buckets, declared once.

`provision` is run by a command and a Kubernetes Job, never by a service at its start; it may
be run again at any time. Only an arm's consumer is made later, when the arm registers.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client as NATS
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    ConsumerInfo,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from octarm.common.telemetry.logs import get_logger
from octarm.models import subjects as s

log = get_logger()
MIB: Final = 1024 * 1024
DAY_S: Final = 86_400.0
# A Msg-Id costs the server some 170 bytes for so long. What is repeated later arrives twice, and
# must be harmless where it arrives; the window only spares the work.
DUPLICATE_WINDOW_S: Final = 120.0
UNLIMITED: Final = -1
LEADER_TTL_S: Final = 5.0
# After this the server hands to another process what a dead one had in hand: shorter than a lease,
# or the ledger would give up attempts whose results lie there.
HANDED_ON_S: Final = 10.0
# A consumer is made in a tenth of a second; a slow machine gets more with the next tries. Each
# comes twice: what was made and is silent is removed in silence too, which the next try sees.
ANSWERS_WITHIN_S: Final = (0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0)

ORCHESTRATOR_INTAKE: Final = "orchestrator-accept-task"
ORCHESTRATOR_RESULTS: Final = "orchestrator-finish-task"
ORCHESTRATOR_DISPATCH: Final = "orchestrator-see-dispatch"
# Nobody reads it: while it has not, the stream keeps by whom each shard is led.
LEADERS: Final = "scheduler-lead-shard"
MEMORY_EPISODES: Final = "memory-remember-task"
MEMORY_WRITES: Final = "memory-keep-writes"


def scheduler_durable(shard: int) -> str:
    """Name the consumer of a shard's READY messages."""
    return f"scheduler-place-task-{shard}"


async def consumers_of(js: JetStreamContext, stream: str) -> list[ConsumerInfo]:
    """List a stream's consumers, all pages of them."""
    found: list[ConsumerInfo] = []
    while page := await js.consumers_info(stream, offset=len(found)):
        found += page
    return found


async def consumer_names(js: JetStreamContext, stream: str) -> set[str]:
    """Name a stream's consumers, all pages of them; far cheaper for the server than a list."""
    found = set[str]()
    total = 1
    while len(found) < total:
        page = await js._api_request(
            f"{js._prefix}.CONSUMER.NAMES.{stream}", b'{"offset":%d}' % len(found), js._timeout
        )
        total = page["total"] if page["consumers"] else 0
        found.update(page["consumers"] or ())
    return found


def arm_durable(arm_id: str) -> str:
    """Name the consumer of an arm's run commands."""
    return f"arm-run-{arm_id}"


# What a message is kept for: one consumer's acknowledgement, or its age. DISPATCH alone has two
# readers of each message, arm and ledger, and keeps it until both have it.
QUEUE: Final = RetentionPolicy.WORK_QUEUE
HISTORY: Final = RetentionPolicy.LIMITS


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream; `max_bytes` is kept well below the disk so that full means 10077."""

    name: str
    subjects: tuple[str, ...]
    retention: RetentionPolicy
    max_bytes: int
    max_age_s: float = 0.0


STREAMS: Final = (
    StreamSpec(s.INTAKE, (s.SUBMIT_TASK.pattern,), retention=QUEUE, max_bytes=512 * MIB),
    StreamSpec(s.READY, (s.PLACE_TASKS.pattern,), retention=QUEUE, max_bytes=1024 * MIB),
    StreamSpec(
        s.DISPATCH,
        (s.RUN_TASKS.pattern, s.LEAD_SHARD.pattern),
        retention=RetentionPolicy.INTEREST,
        max_bytes=1024 * MIB,
    ),
    StreamSpec(
        s.RESULTS,
        tuple(
            subject.pattern
            for subject in (
                s.RESULT,
                s.RESULTS_REPORTED,
                s.ATTEMPTS_UPDATED,
                s.SPEND_REPORTED,
            )
        ),
        retention=QUEUE,
        max_bytes=2048 * MIB,
    ),
    StreamSpec(s.ENDED, (s.TASKS_ENDED.pattern,), retention=QUEUE, max_bytes=1024 * MIB),
    StreamSpec(s.EPISODES, (s.KEEP_WRITES.pattern,), retention=QUEUE, max_bytes=1024 * MIB),
    StreamSpec(
        s.EVENTS,
        tuple(
            subject.pattern
            for subject in (
                *(s.TASK_EVENTS, s.ARM_EVENT, s.MEMORY_EVENT),
                *(s.POLICY_EVENT, s.SHEDDING_EVENT),
            )
        ),
        retention=HISTORY,
        max_bytes=4096 * MIB,
        max_age_s=7 * DAY_S,
    ),
    StreamSpec(
        s.DLQ,
        (s.DEAD_LETTER.format(origin="*"),),
        retention=HISTORY,
        max_bytes=1024 * MIB,
        max_age_s=30 * DAY_S,
    ),
)

# With the seconds after which a value is forgotten; 0: never.
BUCKETS: Final = (
    (s.ARMS_BUCKET, 0.0),
    (s.LEADERS_BUCKET, LEADER_TTL_S),
    (s.POLICIES_BUCKET, 0.0),
    (s.MEMORY_BUCKET, 0.0),
)


def stream_config(spec: StreamSpec, *, replicas: int) -> StreamConfig:
    """Say how a stream is to be."""
    return StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=spec.retention,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD if spec.retention is HISTORY else DiscardPolicy.NEW,
        max_bytes=spec.max_bytes,
        max_age=spec.max_age_s,
        duplicate_window=DUPLICATE_WINDOW_S,
        num_replicas=replicas,
        allow_rollup_hdrs=False,
        deny_delete=False,
    )


def consumer_config(
    durable: str, filters: list[str], *, ack_wait_s: float, max_ack_pending: int
) -> ConsumerConfig:
    """Say how a pull consumer is to be; no filters: it gets the whole stream.

    Redelivery is bounded by our dead letters, not here.
    """
    return ConsumerConfig(
        durable_name=durable,
        filter_subjects=filters or None,
        ack_policy=AckPolicy.EXPLICIT,
        deliver_policy=DeliverPolicy.ALL,
        ack_wait=ack_wait_s,
        max_deliver=UNLIMITED,
        max_ack_pending=max_ack_pending,
        max_waiting=512,
    )


def consumers(shards: int) -> list[tuple[str, ConsumerConfig]]:
    """List the fixed consumers with their streams."""
    fixed: list[tuple[str, str, list[str]]] = [
        (s.INTAKE, ORCHESTRATOR_INTAKE, []),
        (s.RESULTS, ORCHESTRATOR_RESULTS, []),
        (s.DISPATCH, ORCHESTRATOR_DISPATCH, []),
        (s.DISPATCH, LEADERS, [s.LEAD_SHARD.pattern]),
        (s.ENDED, MEMORY_EPISODES, []),
        (s.EPISODES, MEMORY_WRITES, []),
    ]
    configs = [
        (stream, consumer_config(name, filters, ack_wait_s=HANDED_ON_S, max_ack_pending=20_000))
        for stream, name, filters in fixed
    ]
    return configs + [(s.READY, ready_consumer(shard)) for shard in range(shards)]


def ready_consumer(shard: int) -> ConsumerConfig:
    """Say how a shard's READY consumer is to be: its messages stay unacknowledged for long."""
    return consumer_config(
        scheduler_durable(shard),
        [s.PLACE_TASKS.at(shard=shard)],
        ack_wait_s=3600.0,
        max_ack_pending=200_000,
    )


async def provision(js: JetStreamContext, *, replicas: int = 1, shards: int = 1) -> list[str]:
    """Create or update everything; returns what was done, one line each."""
    done: list[str] = []
    for spec in STREAMS:
        config = stream_config(spec, replicas=replicas)
        try:
            await js.stream_info(spec.name)
            await js.update_stream(config)
            done.append(f"stream {spec.name} updated")
        except NotFoundError:
            await js.add_stream(config)
            done.append(f"stream {spec.name} created")
    for stream, consumer in consumers(shards):
        await js.add_consumer(stream, consumer)
        done.append(f"consumer {stream}/{consumer.durable_name} ready")
    for bucket, ttl_s in BUCKETS:
        await _ensure_bucket(js, bucket, ttl_s, replicas)
        done.append(f"bucket {bucket} ready")
    return done


async def _ensure_bucket(js: JetStreamContext, bucket: str, ttl_s: float, replicas: int) -> None:
    try:
        await js.stream_info(f"KV_{bucket}")
    except NotFoundError:
        await js.create_key_value(
            KeyValueConfig(bucket=bucket, history=1, ttl=ttl_s, replicas=replicas)
        )


async def ensure_arm_consumer(js: JetStreamContext, arm_id: str) -> None:
    """Create the consumer by which an arm's instances get their run commands; idempotent."""
    config = consumer_config(
        arm_durable(arm_id),
        [s.RUN_TASKS.at(arm_id=arm_id)],
        ack_wait_s=30.0,
        max_ack_pending=20_000,
    )
    await js.add_consumer(s.DISPATCH, config)


async def make_anew(nc: NATS, stream: str, config: ConsumerConfig) -> None:
    """Delete a durable consumer and make it again: what it has not acknowledged comes at once.

    In a cluster the server picks by chance the node that first leads a consumer. For minutes that
    may be one which nobody hears, and the others take up to nine seconds to elect another; so one
    that does not answer at once is made once more, elsewhere.

    Raises:
        TimeoutError: JetStream does not answer.
        NatsError: it refuses.
    """
    for within_s in ANSWERS_WITHIN_S:
        try:
            await _make_anew(nc.jetstream(timeout=within_s), stream, config)
        except TimeoutError:
            log.warning("consumer_silent", consumer=config.durable_name, after_s=within_s)
        else:
            return
    raise TimeoutError(f"consumer {config.durable_name} stays silent")


async def _make_anew(js: JetStreamContext, stream: str, config: ConsumerConfig) -> None:
    # Only once it is known to be gone: one that is still there would be given back as it is.
    with suppress(NotFoundError):
        await js.delete_consumer(stream, str(config.durable_name))
    await js.add_consumer(stream, config)
