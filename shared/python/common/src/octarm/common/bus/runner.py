"""PullRunner: the one loop by which the task flow consumes JetStream.

It keeps a pull request open and tops it up (1.5 times the throughput of repeated fetches), hands
batches to a handler, settles each message by its outcome, notices a dead subscription, and drains
within a bound. A batch that takes over `stall_after_s`, or a silent server, makes it unhealthy.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from octarm.common.bus.dead_letters import DeadLetters
from octarm.common.bus.delivery import Ack, Dead, Delivery, Outcome, Retry, Settlements, after_bug
from octarm.common.bus.publisher import Publisher
from octarm.common.bus.quarantine import suspicion
from octarm.common.bus.wire import ROUND_TRIP_S, listen, take_no_more
from octarm.common.clock import Clock, SystemClock, set_within
from octarm.common.telemetry import metrics
from octarm.common.telemetry.logs import get_logger
from octarm.models.errors import OctarmError, Unavailable

EXPIRES_S: Final = 30.0
IDLE_HEARTBEAT_S: Final = 1.0
MAX_SILENCES: Final = 15
MAX_BACKOFF_S: Final = 2.0
DRAIN_S: Final = 20.0
BEHIND_BYTES: Final = 16 * 1024

Handler = Callable[[list[Delivery]], Awaitable[Sequence[Outcome]]]

log = get_logger()


@dataclass(frozen=True, slots=True)
class ConsumerRef:
    """A durable consumer of a stream."""

    stream: str
    durable: str


class PullRunner:
    """Runs `handle` over batches of one durable consumer.

    `capacity` (None: unbounded) says how many messages may be asked for now; call `wake` when
    it has grown. Up to `concurrency` batches are handled at the same time. After each there is a
    rest of `rest_s` seconds, so that more gathers for the next: for work that nobody waits for.
    An acknowledgement behind which nothing has come lingers for `linger_s`, see `Settlements`.
    The server shows each `idle_heartbeat_s` that it lives; after three without, it is asked anew.
    """

    def __init__(
        self,
        nc: NATS,
        publisher: Publisher,
        consumer: ConsumerRef,
        handle: Handler,
        *,
        batch: int = 500,
        capacity: Callable[[], int] | None = None,
        concurrency: int = 1,
        rest_s: float = 0.0,
        linger_s: float = 0.0,
        stall_after_s: float = 30.0,
        idle_heartbeat_s: float = IDLE_HEARTBEAT_S,
        clock: Clock | None = None,
    ) -> None:
        self._nc = nc
        self._silent_s = 3 * idle_heartbeat_s
        self._times_ns = (int(EXPIRES_S * 1e9), int(idle_heartbeat_s * 1e9))
        self._clock = clock or SystemClock()
        self._consumer = consumer
        self._handle = handle
        self._batch = batch
        self._capacity = capacity or (lambda: 2 * batch)
        self._concurrency = concurrency
        self._rest_s = rest_s
        self._stall_after_s = stall_after_s
        self._dead_letters = DeadLetters(publisher, consumer.durable)
        self._buffer: deque[Delivery] = deque()
        self._requests: dict[str, int] = {}
        self._arrived = asyncio.Event()
        self._starting = self._draining = False
        self._running: dict[asyncio.Task[None], float] = {}
        self._answers = Settlements(nc, linger_s=linger_s)
        self._heard_at = self._clock.monotonic()
        self._backoff_s = self._ask_not_before = 0.0
        self._request_no = self._reconnects = self._unbegun = self._resubscribed = 0
        self._subscription: Subscription | None = None
        self._inbox = ""

    def wake(self) -> None:
        """Say that `capacity()` may have grown."""
        if self._buffer or self._wanted():
            self._arrived.set()

    def behind(self) -> bool:
        """Whether some forty reports or more wait here, as all batches that may be are handled."""
        waiting = sum(len(delivery.data) for delivery in self._buffer)
        return waiting > BEHIND_BYTES and len(self._running) >= self._concurrency

    def healthy(self) -> bool:
        """Whether batches finish and the server is heard."""
        now = self._clock.monotonic()
        stalled = any(now - since > self._stall_after_s for since in self._running.values())
        return not stalled and now - self._heard_at < 2 * EXPIRES_S

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, then finish what is in hand and hand back the rest.

        Raises:
            Unavailable: the subscription stays dead; let the process end and start anew.
        """
        self._draining = False
        await self._subscribe()
        stopped = asyncio.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self._arrived.set())
        try:
            while not stop.is_set():
                self._arrived.clear()
                await self._watch()
                await self._top_up()
                self._start_batches()
                await set_within(self._arrived, min(2.0, max(1.0, self._silent_s / 6)))
        finally:
            stopped.cancel()
            self._draining = True
            await self._drain()

    async def _subscribe(self) -> None:
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()
        self._requests.clear()
        self._inbox = self._nc.new_inbox()
        self._subscription = await listen(self._nc, f"{self._inbox}.*", self._received)
        self._heard_at = self._clock.monotonic()

    def _received(self, msg: Msg) -> None:
        self._heard_at = self._clock.monotonic()
        if msg.subject.startswith(self._inbox):
            self._status(msg)
            return
        self._resubscribed, self._backoff_s = 0, 0.0
        # The server serves pull requests in the order they came.
        if request := next(iter(self._requests), ""):
            self._requests[request] -= 1
            if not self._requests[request]:
                del self._requests[request]
        self._take(Delivery(msg, self._answers.put, self._take))

    def _take(self, delivery: Delivery) -> None:
        self._buffer.append(delivery)
        self._answers.overtaken()
        if not self._starting:
            self._starting = True  # Soon: what is read together is handled together.
            asyncio.get_running_loop().call_soon(self._start_batches)
        if sum(self._requests.values()) <= (self._batch + 1) // 2:
            self._arrived.set()

    def _status(self, msg: Msg) -> None:
        status = (msg.headers or {}).get("Status", "")
        if status == "100":
            return
        self._requests.pop(msg.subject, None)
        if status not in ("404", "408"):
            self._backoff_s = min(MAX_BACKOFF_S, max(0.1, self._backoff_s * 2))
            self._ask_not_before = self._clock.monotonic() + self._backoff_s
            log.debug("pull_refused", status=status, consumer=self._consumer.durable)
        self._arrived.set()

    async def _watch(self) -> None:
        if self._reconnects != self._nc.stats["reconnects"]:
            self._reconnects = self._nc.stats["reconnects"]
            self._requests.clear()
        if self._nc.is_connected and self._clock.monotonic() - self._heard_at > self._silent_s:
            if not self._requests:
                self._heard_at = self._clock.monotonic()
                return
            self._resubscribed += 1
            log.warning("pull_subscription_silent", consumer=self._consumer.durable)
            if self._resubscribed > MAX_SILENCES:
                raise Unavailable(f"consumer {self._consumer.durable} stays silent")
            if self._resubscribed % 2 == 0 and len(self._nc.servers) > 1:
                await self._nc.force_reconnect()  # The consumer may not be within its reach.
            await self._subscribe()

    async def _top_up(self) -> None:
        may_ask = self._nc.is_connected and self._clock.monotonic() >= self._ask_not_before
        if not may_ask or not (want := self._wanted()):
            return
        self._request_no += 1
        reply = f"{self._inbox}.{self._request_no}"
        body = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (want, *self._times_ns)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._consumer.stream}.{self._consumer.durable}"
        self._requests[reply] = want
        try:
            await self._nc.publish(subject, body, reply)
        except (NatsError, OSError):
            self._requests.pop(reply, None)

    def _wanted(self) -> int:
        """Say how many to ask for now; not for a few while others are still to come."""
        outstanding = sum(self._requests.values())
        want = min(self._batch, self._capacity() - len(self._buffer) - self._unbegun) - outstanding
        return 0 if outstanding > 1 and want < self._batch // 2 else max(0, want)

    def _start_batches(self) -> None:
        self._starting = False
        while not self._draining and self._buffer and len(self._running) < self._concurrency:
            size = min(len(self._buffer), self._batch)
            batch = [self._buffer.popleft() for _ in range(size)]
            self._unbegun += size
            task = asyncio.create_task(self._run_batch(batch))
            self._running[task] = self._clock.monotonic()
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self.wake()

    async def _run_batch(self, batch: list[Delivery]) -> None:
        self._unbegun -= len(batch)
        clean, burials = [], []
        for delivery in batch:
            if why := suspicion(delivery):
                metrics.inc("octarm_bus_quarantined_total", consumer=self._consumer.durable)
                burials.append(self._dead_letters.bury(delivery, f"quarantined: {why}"))
            else:
                clean.append(delivery)
        outcomes = await self._outcomes(clean) if clean else []
        for delivery, outcome in zip(clean, outcomes, strict=True):
            if isinstance(outcome, Ack):
                delivery.ack()
            elif isinstance(outcome, Retry):
                delivery.retry(outcome.after_s)
            elif isinstance(outcome, Dead):
                burials.append(self._dead_letters.bury(delivery, outcome.reason))
        if burials or self._rest_s:
            await asyncio.gather(*burials, asyncio.sleep(self._rest_s))

    async def _outcomes(self, batch: list[Delivery]) -> Sequence[Outcome]:
        """Handle one batch; the one place where an unforeseen exception is caught.

        A batch that a bug failed is handled again one by one, so that poison stays alone.
        """
        try:
            return await self._handle(batch)
        except OctarmError as error:
            log.warning("batch_refused", consumer=self._consumer.durable, error=error.message)
            return [Retry(error.retry_after_s or 1.0)] * len(batch)
        except Exception:
            log.exception("handler_failed", consumer=self._consumer.durable)
            metrics.inc("octarm_bus_handler_failures_total", consumer=self._consumer.durable)
            if len(batch) == 1:
                return [after_bug(batch[0])]
            return [(await self._outcomes([delivery]))[0] for delivery in batch]

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                if self._subscription is not None:
                    await take_no_more(self._nc, self._subscription)
                while self._running:
                    await asyncio.wait(self._running)
                while self._buffer:
                    self._buffer.popleft().retry()
                await self._answers.flush()
                if self._nc.is_connected:
                    await self._nc.flush(timeout=ROUND_TRIP_S)
        except (TimeoutError, NatsError, OSError) as error:
            log.warning("drain_cut_short", consumer=self._consumer.durable, error=repr(error))
            metrics.inc("octarm_bus_drains_cut_short_total", consumer=self._consumer.durable)
            for task in self._running:
                task.cancel()
