"""One running instance of an arm: its parts wired together, its start and its end."""

import asyncio
import itertools
import socket
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.clients.orchestrator import OrchestratorClient
from octarm.common.bus.connection import must_be_connected
from octarm.common.bus.identity import introduce
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import arm_durable
from octarm.common.cancelling import end
from octarm.common.health import HealthServer
from octarm.common.telemetry import get_logger, metrics
from octarm.models import hot
from octarm.models.arms import ArmCapability
from octarm.models.commands import CancelAttempt, bundle_size
from octarm.models.errors import Unavailable
from octarm.models.subjects import CONTROL, DISPATCH
from octarm.sdk.chunks import Chunks
from octarm.sdk.doubts import Doubts
from octarm.sdk.handlers import Runnable
from octarm.sdk.line import Line, a_line
from octarm.sdk.presence import Presence
from octarm.sdk.recall import Recall
from octarm.sdk.throttle import Throttle
from octarm.sdk.updates import Updates
from octarm.sdk.worker import Identity, Worker

LAST_WORDS_S: Final = 5
ASK_S: Final = 2.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where an instance runs and how it is to behave there."""

    nats_url: str
    instance_id: str
    heartbeat_s: float = 5.0
    drain_s: float = 30.0
    key: str = ""
    http_host: str = "127.0.0.1"
    http_port: int = 0
    nats_cluster: str | None = None


class Instance:
    """Serves one arm over a line, which it is given and may share with others."""

    def __init__(
        self, line: Line, arm: ArmCapability, handler: Runnable, around: Surroundings
    ) -> None:
        nc = line.nc
        self._nc = nc
        self._line = line
        self._arm = arm
        self._around = around
        self._beats = itertools.count()
        self._status: Literal["ready", "draining"] = "ready"
        self._host = socket.gethostname()[:255]
        self._outbox = line.outbox
        me = Identity(arm.arm_id, around.instance_id)
        self._chunks = Chunks(self._send)
        self._throttle = Throttle(self._beat_soon)
        self._updates = Updates(
            self._outbox,
            self._chunks,
            arm_id=me.arm_id,
            instance_id=me.instance_id,
            throttled=self._throttle.put,
        )
        memory, self._writers = MemoryClient(nc), Writers(nc)
        self.worker = Worker(
            me,
            handler,
            slots=arm.slots,
            publish=self._outbox.put,
            announce=self._updates,
            recall=lambda tenant, task_id: Recall(
                memory, tenant, arm.arm_id, self._writers.of(tenant), task_id
            ),
        )
        ledger = OrchestratorClient(nc, timeout_s=ASK_S)
        self._doubts = Doubts(self.worker.handle, ledger, lambda: nc.stats["reconnects"])
        consumer = ConsumerRef(DISPATCH, arm_durable(arm.arm_id))
        self._runner = PullRunner(
            nc,
            line.publisher,
            consumer,
            self._doubts,
            batch=max(2, -(-arm.slots // bundle_size(arm.slots))),
            capacity=self.worker.capacity,
            idle_heartbeat_s=line.idle_heartbeat_s,
        )
        self.worker.wake = self._runner.wake
        self._presence = Presence(
            line.desk,
            arm,
            key=around.key,
            state=self._heartbeat,
            send=self._send,
            interval_s=around.heartbeat_s,
            beats_per_check=line.beats_per_check,
            beats_before=line.beats_before,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain and leave.

        Raises:
            OctarmError: the registry refuses the arm, or the bus stays silent.
        """
        subject = CONTROL.at(arm_id=self._arm.arm_id)
        control = await self._nc.subscribe(subject, cb=self._controlled)
        try:
            async with self._health():
                await self._serve(stop)
        finally:
            self._updates.close()
            if not self._nc.is_closed:
                await control.unsubscribe()

    async def _serve(self, stop: asyncio.Event) -> None:
        stopped = asyncio.create_task(stop.wait())
        lost = asyncio.create_task(self._line.lost.wait())
        registering = asyncio.create_task(self._presence.register())
        work: list[asyncio.Task[None]] = [self._line.sending, registering]
        try:
            await _first_of(stopped, lost, *work)
            if self._presence.registered and not stop.is_set():
                leaving = asyncio.Event()
                work[1:] = [
                    asyncio.create_task(self._presence.run()),
                    asyncio.create_task(self._runner.run(leaving)),
                ]
                await _first_of(stopped, lost, *work)
                await self._leave(leaving, *work[1:])
            if lost.done():
                raise Unavailable("the connection to NATS was closed for good")
            for task in work:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            for left in (stopped, lost, *work[1:]):
                await end(left)

    async def _leave(
        self, leaving: asyncio.Event, beating: asyncio.Task[None], pulling: asyncio.Task[None]
    ) -> None:
        """Take nothing more, finish or hand back, publish what is left, say goodbye."""
        until = time.monotonic() + self._around.drain_s
        self._status = "draining"
        self._doubts.close()
        self.worker.stop_taking()
        leaving.set()
        await self._presence.beat()
        await self.worker.drain(self._around.drain_s)
        left_s = max(LAST_WORDS_S, until - time.monotonic())
        try:
            async with asyncio.timeout(left_s):
                await asyncio.wait({pulling})
                await self._chunks.flushed()
                self._updates.flush()
                await self._outbox.emptied()
                await self._writers.settled()
        except TimeoutError:
            log.error("not_all_was_sent", results=self._outbox.waiting())
        await end(beating)
        await self._presence.beat()
        if self._nc.is_connected:
            await self._nc.flush(timeout=LAST_WORDS_S)

    async def _send(self, subject: str, payload: bytes) -> None:
        # Nothing is kept for later: an old heartbeat would only mislead.
        if self._nc.is_connected:
            with suppress(NatsError, OSError):
                await self._nc.publish(subject, payload)

    async def _controlled(self, msg: Msg) -> None:
        try:
            order = CancelAttempt.model_validate_json(msg.data)
        except ValidationError:
            log.warning("message_not_understood", subject=msg.subject)
            return
        self.worker.cancel(order)

    def _heartbeat(self) -> hot.Heartbeat:
        running = [
            hot.RunningAttempt(*key, self.worker.slots_of(key)) for key in self.worker.running()
        ]
        slots = self._arm.slots - self.worker.abandoned()
        metrics.put("octarm_arm_running_attempts", len(running))
        tally = self.worker.tally
        return hot.Heartbeat(
            arm_id=self._arm.arm_id,
            instance_id=self._around.instance_id,
            seq=next(self._beats),
            status=self._status,
            slots=slots,
            running=running,
            load=min(1.0, sum([it.slots for it in running]) / max(1, slots)),
            avg_latency_ms=tally.avg_latency_ms,
            error_rate=tally.error_rate,
            uptime_s=tally.uptime_s(),
            interval_s=self._around.heartbeat_s,
            host=self._host,
            provider_wait_s=self._throttle.left_s(),
        )

    def _beat_soon(self) -> None:
        self._presence.hurry()

    def _health(self) -> AbstractAsyncContextManager[object]:
        if not self._around.http_port:
            return nullcontext()
        return HealthServer(
            self._around.http_port,
            host=self._around.http_host,
            live=self._runner.healthy,
            ready={
                "nats": partial(must_be_connected, self._nc),
                "arm-registry": self._is_registered,
            },
        )

    async def _is_registered(self) -> None:
        if not self._presence.registered:
            raise Unavailable("the arm is not registered yet")


async def serve(
    arm: ArmCapability, handler: Runnable, around: Surroundings, stop: asyncio.Event
) -> bool:
    """Connect, serve until `stop`, close; tells whether every handler has ended.

    Raises:
        Unavailable: NATS does not answer, or the connection was lost for good.
        OctarmError: the registry refuses the arm.
    """
    return await serve_all([(arm, handler, around)], stop)


async def serve_all(
    arms: Sequence[tuple[ArmCapability, Runnable, Surroundings]], stop: asyncio.Event
) -> bool:
    """Serve several arms over one connection, that of the first; see `serve`.

    One that fails takes the others with it, drained.
    """
    first, _, around = arms[0]
    async with a_line(
        around.nats_url,
        name=f"arm-{first.arm_id}",
        arms=len(arms),
        expect_cluster=around.nats_cluster,
    ) as line:
        instances = [Instance(line, *one) for one in arms]
        for arm, _, around in arms:
            await introduce(line.nc, f"arm-{arm.arm_id}", around.instance_id)
        serving = [asyncio.create_task(instance.run(stop)) for instance in instances]
        try:
            await asyncio.wait(serving, return_when=asyncio.FIRST_EXCEPTION)
            stop.set()
            await asyncio.gather(*serving, return_exceptions=True)
            for served in serving:
                served.result()
        finally:
            await end(*serving)
    return not any(instance.worker.abandoned() for instance in instances)


async def _first_of(*tasks: asyncio.Task[Any]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
