"""Questions about the queue, answered from the view."""

from dataclasses import dataclass

from octarm.models.queries import GetQueue, QueueView, Waiting, WhyWaiting
from octarm.scheduler.domain.explain import summary, why_waiting
from octarm.scheduler.usecases.desk import Desk


@dataclass(frozen=True, slots=True)
class ShowQueue:
    """Say what waits at this shard."""

    desk: Desk
    leader: str

    async def __call__(self, _: GetQueue) -> QueueView:
        """Answer from what is known now."""
        desk = self.desk
        found = summary(desk.queue, desk.fleet, now=desk.now_s())
        return QueueView(
            shard=desk.shard,
            leader=self.leader,
            policy=desk.policy or desk.queue.policy.name,
            queued=len(desk.queue),
            by_tier=found.by_tier,
            by_tenant=found.by_tenant,
            by_capability=found.by_capability,
            placed_per_s=round(desk.pace.per_s(desk.clock.monotonic()), 3),
            blocked=found.blocked,
            oldest_wait_s=found.oldest_wait_s,
            in_flight=found.in_flight,
        )


@dataclass(frozen=True, slots=True)
class ExplainWait:
    """Say why one task waits."""

    desk: Desk

    async def __call__(self, question: WhyWaiting) -> Waiting:
        """Answer from what is known now."""
        desk = self.desk
        per_s = desk.pace.per_s(desk.clock.monotonic())
        wait = why_waiting(desk.queue, question.task_id, now=desk.now_s(), per_s=per_s)
        note = self.desk.notes.get(question.task_id)
        reason = wait.reason if note is None or wait.position is None else f"{wait.reason}; {note}"
        return Waiting(
            task_id=question.task_id,
            position=wait.position,
            reason=reason,
            arms=wait.arms,
            policy=desk.policy or desk.queue.policy.name,
            starts_in_s=wait.starts_in_s,
        )
