"""What one process does for one shard: compete for it, and place its tasks while it leads."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress

from nats.aio.client import Client as NATS
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from octarm.clients.orchestrator import OrchestratorClient
from octarm.common.bus.delivery import ACKS_LINGER_S
from octarm.common.bus.leadership import Leadership
from octarm.common.bus.publisher import Fence, Publisher
from octarm.common.bus.requests import control_plane
from octarm.common.bus.runner import ConsumerRef, PullRunner
from octarm.common.bus.topology import scheduler_durable
from octarm.common.bus.wire import ROUND_TRIP_S
from octarm.common.cancelling import end
from octarm.common.clock import Clock, SystemClock
from octarm.common.failpoints import failpoint
from octarm.common.service import until_stopped
from octarm.common.telemetry import get_logger
from octarm.models.errors import OctarmError
from octarm.models.subjects import READY
from octarm.policies.accounts import Accounts
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.limits import Limits
from octarm.policies.queue.queue import Rules
from octarm.policies.queue.shares import Shares
from octarm.policies.remembering import Remembering
from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.queue import OVERDUE_AFTER_S, ShardQueue
from octarm.scheduler.routes import Endings, questions
from octarm.scheduler.settings import Settings
from octarm.scheduler.storage import JetStreamDispatched, deliver_all_again
from octarm.scheduler.usecases.admit import AdmitTasks
from octarm.scheduler.usecases.answer import ExplainWait, ShowQueue
from octarm.scheduler.usecases.ask_first import AskFirst
from octarm.scheduler.usecases.decide import Decide, NoScripts, Scripts
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.dispatch import Dispatch
from octarm.scheduler.usecases.follow import CountSpend, EndAttempts, FreeSlot, SweepFlights
from octarm.scheduler.usecases.place import PlaceTasks
from octarm.scheduler.usecases.reject import RejectTasks
from octarm.scheduler.usecases.rivals import Rivals
from octarm.scheduler.usecases.split import SplitMessages
from octarm.scheduler.usecases.take_over import AdoptFlights, TakeOver, WaitForLedger
from octarm.scheduler.usecases.tend import TendFleet

READ_BATCH = 64
AGAIN_AFTER_S = 0.5
ASK_S = 2.0

log = get_logger()


class ShardLeader:
    """Stands by for a shard with a warm picture of the fleet; leads it when it may.

    `desk` is what the shard's messages change; `tend` takes the heartbeats.
    """

    def __init__(
        self,
        settings: Settings,
        nc: NATS,
        publisher: Publisher,
        *,
        shard: int,
        clock: Clock | None = None,
        scripts: Scripts | None = None,
    ) -> None:
        self._scripts = scripts or NoScripts()
        self._clock = clock or SystemClock()
        self._settings = settings
        self._nc = nc
        self._publisher = publisher
        self._dispatched = JetStreamDispatched(nc)
        self._runner: PullRunner | None = None
        self._read_before = 0
        policy = settings.builtin()
        self._arms = Arms(policy.prefer, fit=policy.fit, providers=settings.provider_limits())
        queue = self._empty_queue()
        fleet = Fleet(self._arms, queue)
        self.desk = Desk(shard, settings.queue_capacity, self._clock, queue, fleet)
        self._ledger = OrchestratorClient(nc, timeout_s=ASK_S)
        self._accounts = Accounts(
            self._ledger.usage, now=self._clock.now, monotonic=self._clock.monotonic
        )
        self.tend = TendFleet(self.desk, SweepFlights(self.desk, self._dispatched, self._ledger))

    async def run(self, stop: asyncio.Event) -> None:
        """Compete for the shard until `stop`."""
        name = f"scheduler-{self.desk.shard}"
        leadership = Leadership(self._nc, name, holder=self._settings.instance, clock=self._clock)
        self.desk.may_place = leadership.holds
        await leadership.run(stop, self.lead)

    def healthy(self) -> bool:
        """Whether what can be placed is placed and READY is being read; so of a standby."""
        reads = self._runner is None or self._runner.healthy()
        return self.desk.healthy() and reads

    async def lead(self, lost: asyncio.Event) -> None:
        """Place the shard's tasks until `lost`."""
        shards = self._settings.shards
        rivals = Rivals(self.desk, shards) if shards > 1 else None
        # Without grants to count by, what is spent does not matter here.
        spends = CountSpend(self.desk) if self._settings.providers else None
        endings = Endings(FreeSlot(self.desk), EndAttempts(self.desk), rivals, spends)
        subscriptions = await endings.subscribe(self._nc)
        try:
            if (fence := await self._take_over(lost)) is not None:
                await self._place_until(lost, fence)
        finally:
            self.desk.leading = False
            self._runner = None
            self.desk.clear(self._empty_queue())
            await self._unsubscribe(subscriptions)

    async def _take_over(self, lost: asyncio.Event) -> Fence | None:
        leader = self._settings.instance
        take_over = TakeOver(self.desk, self._dispatched, self._publisher, leader)
        while not lost.is_set():
            try:
                if (fence := await take_over(lost)) is None:
                    return None
                await AdoptFlights(self.desk, self._ledger, self._settings.shards)()
                self._read_before = await deliver_all_again(self._nc, self.desk.shard)
            except OctarmError as error:
                log.warning("take_over_delayed", error=error.message)
                await asyncio.sleep(AGAIN_AFTER_S)
                continue
            failpoint("shard_taken_over")
            log.info("shard_taken_over", shard=self.desk.shard, in_flight=self.desk.in_flight())
            return fence
        return None

    async def _place_until(self, lost: asyncio.Event, fence: Fence) -> None:
        desk = self.desk
        dispatch = Dispatch(desk, self._publisher, fence, connection=self._connection)
        settings, known = self._settings, self._remembering()
        decide = Decide(desk, settings.builtin(), self._scripts, settings.config(), known)
        reject = RejectTasks(desk, self._ledger)
        placer = PlaceTasks(desk, dispatch, decide, reject)
        runner = PullRunner(
            self._nc,
            self._publisher,
            ConsumerRef(READY, scheduler_durable(desk.shard)),
            self._admitting(lost),
            batch=READ_BATCH,
            capacity=desk.room,
            linger_s=ACKS_LINGER_S,
            clock=self._clock,
        )
        desk.more_room = runner.wake
        self._runner = runner
        desk.leading = True
        try:
            async with self._answering():
                await until_stopped(
                    lost,
                    runner.run(lost),
                    placer.run(lost),
                    SplitMessages(desk, self._publisher).run(lost),
                    self._wake(lost),
                )
        finally:
            await reject.aclose()
            await end(*known.under_way())
            if self._nc.is_connected:
                with suppress(NatsError):
                    await self._nc.flush(timeout=ROUND_TRIP_S)

    def _remembering(self) -> Remembering:
        estimates, now = self.desk.recent.estimates, self._clock.now
        return Remembering(self._accounts, self._ledger.decisions, estimates, now)

    def _admitting(self, lost: asyncio.Event) -> AskFirst:
        desk, ledger = self.desk, self._ledger
        known = WaitForLedger(desk, self._dispatched)

        async def up_to_date() -> None:
            await known(await self._dispatched.last_seq(), lost)

        return AskFirst(AdmitTasks(desk), desk, ledger, self._read_before, up_to_date)

    def _answering(self) -> AbstractAsyncContextManager[object]:
        """Answer questions about the shard's queue while inside."""
        show, explain = ShowQueue(self.desk, self._settings.instance), ExplainWait(self.desk)
        differences = self._scripts.differences
        router = questions(show, explain, differences, shard=self.desk.shard)
        return control_plane(self._settings.nats_url, router, name="scheduler")

    def _connection(self) -> int:
        """Number the connections to NATS, and the times between them."""
        return 2 * int(self._nc.stats["reconnects"]) + (not self._nc.is_connected)

    async def _wake(self, lost: asyncio.Event) -> None:
        await lost.wait()
        self.desk.work.set()

    async def _unsubscribe(self, subscriptions: list[Subscription]) -> None:
        if not self._nc.is_closed:
            for subscription in subscriptions:
                await subscription.unsubscribe()

    def _empty_queue(self) -> ShardQueue:
        settings = self._settings
        rules = Rules(
            capacity=settings.queue_capacity,
            full=settings.full_policy,
            promote_after_s=settings.promote_after_s,
            ageing_s=settings.ageing_s,
            overdue_after_s=OVERDUE_AFTER_S,
            keep_free=settings.keep_free,
            catch_up=settings.catch_up,
            shards=settings.shards,
        )
        return ShardQueue(
            settings.builtin(),
            self._arms,
            rules=rules,
            shares=Shares(settings.weights),
            limits=Limits(settings.limit_rules()),
        )
