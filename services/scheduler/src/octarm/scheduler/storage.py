"""What the scheduler reads from JetStream: the arm directory, DISPATCH, its READY consumer."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from octarm.common.bus.topology import (
    ORCHESTRATOR_DISPATCH,
    arm_durable,
    make_anew,
    ready_consumer,
)
from octarm.common.clock import Clock, SystemClock
from octarm.common.telemetry import get_logger
from octarm.models.arms import ArmRecord
from octarm.models.errors import Unavailable
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.subjects import ARMS_BUCKET, DISPATCH, LEAD_SHARD, READY, RUN_TASKS
from octarm.policies.context import ArmFacts
from octarm.scheduler.usecases.ports import Pending, Recorded

RELIST_S: Final = 10.0
FIRST_LIST_S: Final = 5.0
AGAIN_AFTER_S: Final = 1.0
WATCHER_GONE_AFTER_S: Final = 60.0
GONE: Final = ("DEL", "PURGE")

log = get_logger()


class _Command(msgspec.Struct):
    task_id: str
    attempt: int
    slots: int = 1


class _Bundle(msgspec.Struct):
    tasks: list[_Command]


_decode = msgspec.json.Decoder(_Bundle).decode


@asynccontextmanager
async def _unavailable(what: str) -> AsyncGenerator[None, None]:
    try:
        yield
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(f"{what}: {error!r}", retry_after_s=1) from error


class JetStreamDispatched:
    """`Dispatched` by the stream itself."""

    def __init__(self, nc: NATS) -> None:
        self._js = nc.jetstream(timeout=2.0)

    async def pending(self, arm_id: str) -> list[Pending]:
        """List the attempts of an arm that none of its instances has taken."""
        async with _unavailable("DISPATCH"):
            info = await self._consumer(arm_id)
            if info is None or not (info.num_pending or info.num_ack_pending):
                return []
            return await self._commands(RUN_TASKS.at(arm_id=arm_id))

    async def started_below(self, arm_id: str) -> int | None:
        """Give the sequence below which the arm has taken everything; None: everything."""
        async with _unavailable("DISPATCH"):
            info = await self._consumer(arm_id)
        if info is None or not (info.num_pending or info.num_ack_pending):
            return None
        return (info.ack_floor.stream_seq if info.ack_floor else 0) + 1

    async def recorded(self) -> Recorded:
        """Say how far the ledger has recorded it."""
        async with _unavailable("DISPATCH"):
            info: ConsumerInfo = await self._js.consumer_info(DISPATCH, ORCHESTRATOR_DISPATCH)
        done = info.ack_floor.stream_seq if info.ack_floor else 0
        all_of_it = not (info.num_pending or info.num_ack_pending)
        if all_of_it and info.delivered:
            done = max(done, info.delivered.stream_seq)
        return Recorded(done, all_of_it)

    async def last_seq(self) -> int:
        """Give the sequence of the newest message."""
        async with _unavailable("DISPATCH"):
            return int((await self._js.stream_info(DISPATCH)).state.last_seq)

    async def forget_leaders(self, shard: int) -> None:
        """Remove what earlier leaders of the shard have led by."""
        async with _unavailable("DISPATCH"):
            await self._js.purge_stream(DISPATCH, subject=LEAD_SHARD.at(shard=shard), keep=1)

    async def _consumer(self, arm_id: str) -> ConsumerInfo | None:
        try:
            info: ConsumerInfo = await self._js.consumer_info(DISPATCH, arm_durable(arm_id))
            return info
        except NotFoundError:
            return None

    async def _commands(self, subject: str) -> list[Pending]:
        found: list[Pending] = []
        seq = 1
        while True:
            try:
                message = await self._js.get_msg(DISPATCH, seq, subject, next=True)
            except NotFoundError:
                return found
            at = message.seq or seq
            try:
                tasks = _decode(message.data or b"").tasks
                found += [Pending(it.task_id, it.attempt, at, it.slots) for it in tasks]
            except NOT_UNDERSTOOD:
                log.warning("run_command_not_understood", seq=at)
            seq = at + 1


async def deliver_all_again(nc: NATS, shard: int) -> int:
    """Make the shard's READY consumer anew, so that everything unacknowledged comes at once.

    Gives the sequence of the last message that READY had by then.

    Raises:
        Unavailable: JetStream does not answer.
    """
    async with _unavailable("READY"):
        await make_anew(nc, READY, ready_consumer(shard))
        return (await nc.jetstream(timeout=2.0).stream_info(READY)).state.last_seq


class ArmDirectory:
    """Follows the KV bucket of arms and tells `learned` or `unlearned` what changed.

    Watchers may go blind or skip values, so the bucket's last sequence is compared with what
    was seen every ten seconds, and everything is listed again when they differ.
    """

    def __init__(
        self,
        nc: NATS,
        *,
        relisted: Callable[[list[ArmFacts]], None],
        learned: Callable[[ArmFacts], None],
        unlearned: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        self._nc = nc
        self._clock = clock or SystemClock()
        self._relisted = relisted
        self._learned = learned
        self._unlearned = unlearned
        self._seen = 0

    async def run(self) -> None:
        """Follow the directory until cancelled."""
        while True:
            try:
                await self._follow()
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("directory_unreachable", error=repr(error))
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _follow(self) -> None:
        bucket = await self._nc.jetstream(timeout=2.0).key_value(ARMS_BUCKET)
        self._seen = await self._last_seq(bucket)
        watcher = await bucket.watchall(inactive_threshold=WATCHER_GONE_AFTER_S)
        try:
            listed: dict[str, ArmFacts] = {}
            while (entry := await _next(watcher, FIRST_LIST_S)) is not None:
                if (facts := self._read(entry)) is not None:
                    listed[facts.id] = facts
            self._relisted(list(listed.values()))
            await self._watch(bucket, watcher)
        finally:
            # A closed connection must not hide what ended the watch.
            with suppress(NatsError):
                await watcher.stop()  # type: ignore[no-untyped-call]

    async def _watch(self, bucket: KeyValue, watcher: KeyValue.KeyWatcher) -> None:
        check_at = self._clock.monotonic() + RELIST_S
        while True:
            left_s = check_at - self._clock.monotonic()
            if left_s <= 0:
                # Behind what was seen: the bucket was made anew, and counts from 1 again.
                if await self._last_seq(bucket) != self._seen:
                    log.info("directory_watch_skipped")
                    return
                check_at = self._clock.monotonic() + RELIST_S
                continue
            try:
                entry = await _next(watcher, left_s)
            except TimeoutError:
                continue
            if entry is not None:
                facts = self._read(entry)
                if facts is not None:
                    self._learned(facts)
                else:
                    self._unlearned(entry.key)

    async def _last_seq(self, bucket: KeyValue) -> int:
        status = await bucket.status()
        return int(status.stream_info.state.last_seq)

    def _read(self, entry: KeyValue.Entry) -> ArmFacts | None:
        self._seen = max(self._seen, entry.revision or 0)
        if entry.operation in GONE or not entry.value:
            return None
        try:
            record = ArmRecord.model_validate_json(entry.value)
        except ValidationError as error:
            log.warning("arm_not_understood", arm_id=entry.key, error=str(error)[:300])
            return None
        arm = record.arm
        return ArmFacts(
            arm.arm_id,
            status=record.status,
            capabilities=frozenset(arm.capabilities),
            cost_tier=arm.cost_tier,
            labels=arm.labels,
            takes_any=arm.takes_any,
        )


async def _next(watcher: KeyValue.KeyWatcher, timeout_s: float) -> KeyValue.Entry | None:
    """Give the next change; None once, when everything there was has been given."""
    # Not by its `updates`: that may forget that we are cancelled.
    async with asyncio.timeout(timeout_s):
        entry = await anext(watcher)
    return entry if isinstance(entry, KeyValue.Entry) else None
