"""Messages of what the ledger itself decided: who was ended, who became ready."""

from dataclasses import dataclass

from octarm.common.bus.publisher import Outgoing
from octarm.common.telemetry.tracing import is_sampled
from octarm.ledger.domain.changes import Moved, Woken
from octarm.ledger.domain.messages import event, history, ready
from octarm.ledger.domain.tasks import ready_again
from octarm.ledger.hops import woke
from octarm.models.errors import Problem
from octarm.orchestrator.usecases.announce import Announcement


@dataclass(frozen=True, slots=True)
class TellOwn:
    """Makes those messages; `shards` is how many READY has."""

    shards: int

    def ended(self, moved: list[Moved], problem: Problem) -> list[Outgoing]:
        """Tell of tasks that ended for this reason."""
        return Announcement(problem=problem, reason=problem.detail)(moved)

    def ready(self, woken: list[Woken]) -> list[Outgoing]:
        """Let the schedulers know of ready tasks."""
        tasks = [
            ready_again(
                w.contract,
                task_id=w.moved.task_id,
                attempt=w.moved.attempt,
                tenant=w.moved.tenant,
                tier=w.tier,
                priority=w.priority,
                deadline=w.deadline,
                traceparent=w.moved.traceparent,
                queued_at=w.moved.at,
                left=w.left,
            )
            for w in woken
        ]
        return ready(tasks, shards=self.shards)

    def woken(self, woken: list[Woken]) -> list[Outgoing]:
        """Tell the schedulers and the public history of tasks that became ready."""
        woken = [woke(task) if is_sampled(task.moved.traceparent) else task for task in woken]
        events = [
            event(
                "ready",
                task_id=w.moved.task_id,
                tenant=w.moved.tenant,
                seq=w.moved.first_seq,
                attempt=w.moved.attempt,
                at=w.moved.at,
                traceparent=w.moved.traceparent,
            )
            for w in woken
        ]
        return self.ready(woken) + history(events)
