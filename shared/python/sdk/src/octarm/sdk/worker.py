"""The heart of an arm: takes run commands, runs the handler, settles each attempt once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from octarm.common.bus.delivery import ACK, HELD, Dead, Delivery, Outcome, Retry
from octarm.common.bus.publisher import Outgoing, trace_head
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import get_logger, tracing
from octarm.models.commands import CancelAttempt, bundle_size
from octarm.models.contracts import TaskContract
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.scalars import MAX_SLOTS
from octarm.models.subjects import RESULT, result_msg_id
from octarm.sdk import outcomes
from octarm.sdk.admission import admit
from octarm.sdk.attempt import Attempt
from octarm.sdk.context import Context, Reports
from octarm.sdk.deadlines import Deadlines
from octarm.sdk.handlers import Runnable
from octarm.sdk.inbox import HELD_S, Command, Inbox, commands_in
from octarm.sdk.recall import Recall
from octarm.sdk.recent import CalledOff, Key, RecentResults
from octarm.sdk.tally import Tally
from octarm.sdk.threads import HandlerThreads
from octarm.sdk.written import written

CUT_OFF_AFTER_S: Final = 5.0
HANDED_BACK_S: Final = 1.0

log = get_logger()


class Announces(Reports, Protocol):
    """Where a worker says what its attempts have come to."""

    def started(self, key: Key, at: datetime) -> None:
        """Report soon that an attempt has started."""
        ...

    def ended(self, key: Key) -> None:
        """Report nothing more of this attempt."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Which instance of which arm this is."""

    arm_id: str
    instance_id: str


class Worker:
    """Runs attempts of one arm in `slots` slots; most take one, and none waits for more than all.

    `publish` takes finished results, `wake` is called when a slot has become free. An attempt
    that was delivered before is acknowledged and never run twice.
    """

    def __init__(
        self,
        me: Identity,
        handler: Runnable,
        *,
        slots: int,
        publish: Callable[[Outgoing], None],
        announce: Announces,
        recall: Callable[[str, str], Recall],
        cut_off_after_s: float = CUT_OFF_AFTER_S,
        held_s: float = HELD_S,
    ) -> None:
        self.me = me
        self.slots = slots
        self._used = 0
        self.tally = Tally()
        self.wake: Callable[[], None] = lambda: None
        self._handler = handler
        self._publish = publish
        self._announce = announce
        self._recall = recall
        self._cut_off_after_s = cut_off_after_s
        self._subject = RESULT.at(arm_id=me.arm_id)
        self._attempts: dict[Key, Attempt] = {}
        self._inbox = Inbox(held_s)
        self._filling = False
        self._recent = RecentResults()
        self._called_off = CalledOff()
        self._deadlines = Deadlines(self._time_out)
        self._threads = HandlerThreads(slots, me.arm_id)
        self._draining = False

    def capacity(self) -> int:
        """Count the messages that may be asked for now, each with a bundle of attempts."""
        free = self.slots - self._used - self._inbox.slots
        return 0 if self._draining or free <= 0 else -(-free // bundle_size(self.slots))

    def running(self) -> list[Key]:
        """List the attempts whose result is still to come from here, begun or not."""
        begun = [key for key, attempt in self._attempts.items() if not attempt.settled]
        return [*begun, *self._inbox.queued]

    def slots_of(self, key: Key) -> int:
        """Say how many slots an attempt takes that runs or waits here."""
        taken = self._attempts.get(key) or self._inbox.queued[key]
        return taken.slots

    def abandoned(self) -> int:
        """Count the slots held by handlers that were cut off and have not ended."""
        return sum(attempt.slots for attempt in self._attempts.values() if attempt.settled)

    async def handle(self, deliveries: list[Delivery]) -> list[Outcome]:
        """Start what was delivered; the first start is what acknowledges a bundle."""
        failpoint("run_received")
        return [self._take(delivery) for delivery in deliveries]

    def _take(self, delivery: Delivery) -> Outcome:
        try:
            commands = commands_in(delivery.data)
        except NOT_UNDERSTOOD as error:
            return Dead(f"not a run command: {error}")
        if not (fresh := [command for command in commands if not self._is_known(command)]):
            return ACK
        if self._draining:
            return Retry(0.0)
        if len(self._inbox) or fresh[0].slots > self._room():
            self._inbox.hold(delivery, fresh)
            return HELD
        self._inbox.queue(fresh)
        self._fill()
        return ACK

    def _is_known(self, command: Command) -> bool:
        """Whether it runs here or has; what has ended is answered once more."""
        key = (command.task_id, command.attempt)
        if remembered := self._recent.get(key):
            self._publish(remembered)
            return True
        return key in self._attempts or key in self._inbox.queued

    def _fill(self) -> None:
        """Give free slots to what waits; an attempt that is over at once frees its slot again."""
        if self._filling:
            return
        self._filling = True
        try:
            while (room := self._room()) and (command := self._inbox.next(room)):
                self._start(command)
        finally:
            self._filling = False

    def _room(self) -> int:
        """Count the free slots; what wants more than there are runs alone."""
        return self.slots - self._used if self._used else MAX_SLOTS

    def _start(self, command: Command) -> None:
        attempt = Attempt(command)
        self._attempts[attempt.key] = attempt
        self._used += attempt.slots
        reason = self._called_off.pop(attempt.key)
        if reason is not None:
            self._refuse(attempt, outcomes.called_off(reason))
            return
        task = admit(command, now=attempt.started_at)
        if isinstance(task, outcomes.Failure):
            self._refuse(attempt, task)
            return
        loop = asyncio.get_running_loop()
        attempt.task = task
        attempt.context = Context(
            task,
            command,
            arm_id=self.me.arm_id,
            instance_id=self.me.instance_id,
            reports=self._announce,
            recall=self._recall(task.tenant, task.task_id),
            loop=loop,
        )
        attempt.due = self._deadlines.put(attempt, attempt.allowed_s())
        attempt.work = loop.create_task(self._run(attempt, task, attempt.context))
        self._announce.started(attempt.key, attempt.started_at)

    def _refuse(self, attempt: Attempt, why: outcomes.Failure) -> None:
        self._settle(attempt, why)
        self._release(attempt)

    async def _run(self, attempt: Attempt, task: TaskContract, context: Context) -> None:
        """Run the handler to the end and free the slot, whatever happens on the way."""
        try:
            ending = await self._ending(attempt, task, context)
            if context.memory.behind.windows:
                ending = await written(ending, context)
            if attempt.settled:
                log.warning("abandoned_handler_ended", **attempt.names)
            self._settle(attempt, ending)
        finally:
            self._release(attempt)

    async def _ending(self, attempt: Attempt, task: TaskContract, ctx: Context) -> outcomes.Ending:
        """Call the handler; the one place where an unforeseen exception is caught."""
        try:
            if tracing.is_sampled(attempt.traceparent):
                ctx.traceparent = attempt.trace()
            return outcomes.returned(await self._call(task, ctx))
        except asyncio.CancelledError as error:
            return outcomes.raised(error)
        except (Exception, SystemExit) as error:  # an arm outlives its handlers
            if not attempt.settled:
                log.warning("handler_raised", exc_info=error, **attempt.names)
            return outcomes.raised(error)

    async def _call(self, task: TaskContract, context: Context) -> object:
        if self._handler.threaded:
            return await self._threads.submit(self._handler.call, task, context)
        return await self._handler.start(task, context)

    def _time_out(self, attempt: Attempt) -> None:
        self._cut_off(attempt, outcomes.out_of_time(attempt.task, attempt.allowed_s()))

    def _cut_off(self, attempt: Attempt, ending: outcomes.Failure) -> None:
        """End an attempt now; its slot stays taken until the handler really ends."""
        self._settle(attempt, ending)
        if attempt.context is not None and not attempt.context.cancelled:
            attempt.context.call_off(ending.problem.detail)
        if attempt.work is not None and not self._handler.threaded:
            attempt.work.cancel()

    def cancel(self, order: CancelAttempt) -> None:
        """Tell an attempt to stop; it is cut off after 5 s. One that is not there is answered."""
        key = (order.task_id, order.attempt)
        attempt = self._attempts.get(key)
        if attempt is None:
            self._call_off(key, order.reason)
            return
        if attempt.cancelled or attempt.settled or attempt.context is None:
            return
        attempt.context.call_off(order.reason)
        self._deadlines.drop(attempt, attempt.due)
        attempt.timer = asyncio.get_running_loop().call_later(
            self._cut_off_after_s, self._cut_off, attempt, outcomes.called_off(order.reason)
        )

    def _call_off(self, key: Key, reason: str) -> None:
        """Answer for an attempt that does not run: with its result, or that it never will."""
        if remembered := self._recent.get(key):
            self._publish(remembered)
            return
        self._called_off.put(key, reason)
        if (command := self._inbox.take(key)) is not None:
            self._start(command)

    def _settle(self, attempt: Attempt, ending: outcomes.Ending) -> None:
        """Send the attempt's one result; the first ending counts."""
        if attempt.settled:
            return
        if attempt.cancelled and attempt.context is not None:
            ending = outcomes.called_off(attempt.context.cancel_reason)
        attempt.settled = True
        self._deadlines.drop(attempt, attempt.due)
        if attempt.timer is not None:
            attempt.timer.cancel()
        if attempt.context is not None:
            attempt.context.settle()
        self._announce.ended(attempt.key)
        attempt.traced(self.me.arm_id, outcomes.error_of(ending))
        payload = outcomes.encode(
            ending, attempt.circumstances(self.me.arm_id, self.me.instance_id)
        )
        message = Outgoing(
            self._subject, payload, result_msg_id(*attempt.key), trace_head(attempt.traceparent)
        )
        self._recent.put(attempt.key, message)
        self._publish(message)
        failed = isinstance(ending, outcomes.Failure) and not attempt.cancelled
        self.tally.ended(attempt.elapsed_s(), failed=failed, traceparent=attempt.traceparent)

    def _release(self, attempt: Attempt) -> None:
        """Free the slot and give it to a command that waits for one."""
        del self._attempts[attempt.key]
        self._used -= attempt.slots
        self._fill()
        self.wake()

    def stop_taking(self) -> None:
        """Start nothing more; what waits goes back to the stream, or to the ledger."""
        self._draining = True
        for command in self._inbox.close():
            self._settle(Attempt(command), outcomes.handed_back())

    async def drain(self, timeout_s: float) -> None:
        """Let the handlers finish within `timeout_s` seconds, then hand back the rest."""
        self.stop_taking()
        await _ended(self._unsettled(), timeout_s)
        left = self._unsettled()
        for attempt in left:
            self._cut_off(attempt, outcomes.handed_back())
        if left:
            log.warning("attempts_handed_back", count=len(left))
            await _ended(left, HANDED_BACK_S)
        self._deadlines.close()
        self.tally.flush()
        self._threads.close()

    def _unsettled(self) -> list[Attempt]:
        return [attempt for attempt in self._attempts.values() if not attempt.settled]


async def _ended(attempts: list[Attempt], timeout_s: float) -> None:
    works = [attempt.work for attempt in attempts if attempt.work]
    if works:
        await asyncio.wait(works, timeout=timeout_s)
