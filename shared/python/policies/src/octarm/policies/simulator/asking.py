"""Cycles of a scripted policy, as the scheduler has them: window, context, check, apply."""

from typing import Final

from octarm.policies.actions import check, senseless
from octarm.policies.context import Config, TenantLimits
from octarm.policies.language.evaluator import ScriptError
from octarm.policies.queue.cycle import place
from octarm.policies.queue.estimates import kind_of
from octarm.policies.queue.heard import Account, Heard
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.queue import Queue
from octarm.policies.queue.tasks import Task
from octarm.policies.queue.window import Applied, Sent, apply, context, window
from octarm.policies.simulator.deciders import Decider
from octarm.policies.simulator.load import Load
from octarm.policies.simulator.tally import Tally

# So often a script is asked within one cycle while it goes on placing whole windows.
ROUNDS: Final = 64


class Asking:
    """Asks a scripted policy what to do; where it fails, the platform's order decides."""

    def __init__(self, decider: Decider, load: Load) -> None:
        self._decider = decider
        accounts = {it.name: Account(TenantLimits(running=it.running)) for it in load.tenants}
        self._heard = Heard(accounts=accounts)
        self._config = Config(
            queue_capacity=load.queue.capacity,
            full_policy=load.queue.full,
            ageing_ms=int(load.queue.promote_after_s * 1000),
        )
        self._cycle = 0
        self.again_s: float | None = None

    def ended(self, arm_id: str, task: Task, *, took_s: float, cost: float, failed: bool) -> None:
        """Learn from an attempt that ended."""
        kind = kind_of(task.needs)
        learn = self._heard.estimates.learn
        learn(arm_id, kind, took_s * 1000, cost, succeeded=not failed)

    def cycle(
        self, queue: Queue, homes: Homes, tally: Tally, *, now: float
    ) -> tuple[list[Sent], list[Task]]:
        """Ask until the script places nothing more; gives what was placed, and rejected."""
        sent: list[Sent] = []
        rejected: list[Task] = []
        self.again_s = None
        for _ in range(ROUNDS):
            tasks = window(queue, now)
            if not tasks:
                break
            done = self._ask(queue, homes, tasks, tally, now=now)
            sent += done.sent
            rejected += [task for task, _ in done.rejected]
            if done.retry_after_s is not None:
                self.again_s = now + done.retry_after_s
            if not (done.sent or done.rejected):
                break
        return sent, rejected

    def _ask(
        self, queue: Queue, homes: Homes, tasks: list[Task], tally: Tally, *, now: float
    ) -> Applied:
        self._cycle += 1
        seen = context(
            queue, tasks, now=now, cycle=self._cycle, config=self._config, heard=self._heard
        )
        try:
            checked = check(self._decider.decide(seen), seen)
            if (why := senseless(checked)) is not None:
                raise ScriptError(why)
        except ScriptError as error:
            tally.script_errors += 1
            tally.first_error = tally.first_error or str(error)
            decisions = place(queue, homes, now=now, window=len(tasks))
            return Applied(sent=[Sent(it.task, it.arm, it.reason, None) for it in decisions])
        done = apply(queue, checked.kept, now=now)
        tally.dropped_actions.update(it.kind for it in (*checked.dropped, *done.dropped))
        return done
