"""The directory in a KV bucket, the arms' consumers, and the announcer on EVENTS."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Protocol

from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from octarm.arm_registry.domain.fleet import Stored
from octarm.arm_registry.usecases.ports import ChangedMeanwhile
from octarm.common import telemetry
from octarm.common.bus.cloud_events import cloud_event
from octarm.common.bus.publisher import Outgoing, PubAck
from octarm.common.bus.topology import arm_durable, consumer_names, ensure_arm_consumer
from octarm.models.arms import ArmRecord
from octarm.models.errors import OctarmError, Unavailable
from octarm.models.events import ArmEvent
from octarm.models.subjects import ARM_EVENT, ARMS_BUCKET, DISPATCH

TIMEOUT_S: Final = 3.0
RETRY_S: Final = 1.0
SNAPSHOT_GONE_S: Final = 5.0
MAX_UNTOLD: Final = 10_000

log = telemetry.get_logger()


@contextmanager
def _bus_errors(what: str) -> Iterator[None]:
    try:
        yield
    except KeyWrongLastSequenceError as error:
        raise ChangedMeanwhile from error
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(f"{what}: {error or type(error).__name__}", retry_after_s=1) from error


class KvDirectory:
    """The directory in the bucket `octarm_arms`: key = arm_id, value = ArmRecord as JSON."""

    def __init__(self, nc: NATS) -> None:
        self._js = nc.jetstream(timeout=TIMEOUT_S)
        self._opened: KeyValue | None = None

    async def get(self, arm_id: str) -> Stored | None:
        """Give one arm, None when there is none (or what is there is none)."""
        with _bus_errors("arm directory"):
            try:
                entry = await (await self._bucket()).get(arm_id)
            except KeyNotFoundError:
                return None
        return _stored(entry)

    async def all(self) -> dict[str, Stored]:
        """Give every arm, by one pass over the bucket."""
        found: dict[str, Stored] = {}
        with _bus_errors("arm directory"):
            async with _snapshot(await self._bucket()) as entries:
                async with asyncio.timeout(TIMEOUT_S):
                    while (entry := await entries.updates(TIMEOUT_S)) is not None:  # type: ignore[no-untyped-call]
                        stored = _stored(entry) if entry.operation is None else None
                        if stored is not None:
                            found[entry.key] = stored
        return found

    async def create(self, record: ArmRecord) -> Stored:
        """Add an arm; raises ChangedMeanwhile when it exists."""
        with _bus_errors("arm directory"):
            bucket = await self._bucket()
            revision = await bucket.create(record.arm.arm_id, _json(record))
        return Stored(record, revision)

    async def replace(self, stored: Stored, record: ArmRecord) -> Stored:
        """Put `record` in place of `stored`; raises ChangedMeanwhile when that is not there."""
        with _bus_errors("arm directory"):
            bucket = await self._bucket()
            key = stored.record.arm.arm_id
            revision = await bucket.update(key, _json(record), last=stored.revision)
        return Stored(record, revision)

    async def remove(self, stored: Stored) -> None:
        """Delete an arm; raises ChangedMeanwhile when `stored` is not what is there."""
        with _bus_errors("arm directory"):
            try:
                bucket = await self._bucket()
                await bucket.delete(stored.record.arm.arm_id, last=stored.revision)
            except NatsError as error:
                # `delete` gives the server's error as it is, `update` translates it.
                if getattr(error, "err_code", None) in (10071, 10164):
                    raise ChangedMeanwhile from error
                raise

    async def check(self) -> None:
        """Raise Unavailable unless the bus answers and the bucket is there."""
        self._opened = None
        with _bus_errors("arm directory"):
            await self._bucket()

    async def _bucket(self) -> KeyValue:
        if self._opened is None:
            try:
                self._opened = await self._js.key_value(ARMS_BUCKET)
            except NotFoundError as error:
                raise Unavailable(
                    f"there is no bucket {ARMS_BUCKET}", "Run `octarm bus provision`."
                ) from error
        return self._opened


@asynccontextmanager
async def _snapshot(bucket: KeyValue) -> AsyncGenerator[KeyValue.KeyWatcher, None]:
    watcher = await bucket.watchall(inactive_threshold=SNAPSHOT_GONE_S)
    try:
        yield watcher
    finally:
        with contextlib.suppress(NatsError, OSError):
            await watcher.stop()  # type: ignore[no-untyped-call]


def _json(record: ArmRecord) -> bytes:
    return record.model_dump_json().encode()


def _stored(entry: KeyValue.Entry) -> Stored | None:
    try:
        return Stored(ArmRecord.model_validate_json(entry.value or b""), entry.revision or 0)
    except ValidationError:
        log.error("directory_entry_not_understood", key=entry.key)
        return None


class BusConsumers:
    """Makes the arms' durable consumers on DISPATCH."""

    def __init__(self, nc: NATS) -> None:
        self._js = nc.jetstream(timeout=TIMEOUT_S)

    async def ensure(self, arm_id: str) -> None:
        """Create the arm's consumer unless it exists; raises Unavailable."""
        with _bus_errors("arm consumer"):
            await ensure_arm_consumer(self._js, arm_id)

    async def restore(self, arm_ids: Iterable[str]) -> list[str]:
        """Create the consumers that these arms lack; gives the arms that lacked one."""
        with _bus_errors("arm consumers"):
            known = await consumer_names(self._js, DISPATCH)
            missing = [arm_id for arm_id in arm_ids if arm_durable(arm_id) not in known]
            for arm_id in missing:
                await ensure_arm_consumer(self._js, arm_id)
        return missing


class Publishes(Protocol):
    """What the announcer publishes with."""

    async def publish(self, message: Outgoing) -> PubAck:
        """Publish one message and await its acknowledgement."""
        ...


class BusAnnouncer:
    """Publishes arm events in order, each until the stream has it.

    Events wait in memory; what a crash takes with it the next leader tells again from the
    directory. Past 10,000 the oldest is dropped, logged.
    """

    def __init__(self, publisher: Publishes) -> None:
        self._publisher = publisher
        self._untold: deque[ArmEvent] = deque()
        self._came = asyncio.Event()

    def announce(self, event: ArmEvent) -> None:
        """Hand an event over; returns at once."""
        if len(self._untold) >= MAX_UNTOLD:
            log.error("arm_event_dropped", event_id=self._untold.popleft().event_id)
        self._untold.append(event)
        self._came.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set; then what is left, once."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._came.set())
        try:
            while not stop.is_set():
                await self._came.wait()
                self._came.clear()
                if not await self._tell():
                    self._came.set()
                    await asyncio.wait({stopping}, timeout=RETRY_S)
            await self._tell()
        finally:
            stopping.cancel()

    async def _tell(self) -> bool:
        while self._untold:
            try:
                await self._publisher.publish(outgoing(self._untold[0]))
            except OctarmError as error:
                log.warning("arm_event_not_published", error=error.message)
                return False
            self._untold.popleft()
        return True


def outgoing(event: ArmEvent) -> Outgoing:
    """Give an arm event as it stands in EVENTS."""
    subject = ARM_EVENT.at(verb=event.type.removeprefix("arm."), arm_id=event.arm_id)
    return cloud_event(subject, event, source="arm-registry", about=event.arm_id)
