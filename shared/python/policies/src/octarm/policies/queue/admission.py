"""What happens to a newcomer when the queue is full."""

from dataclasses import dataclass

from octarm.policies.queue.queue import Queue
from octarm.policies.queue.tasks import BATCH, Task


@dataclass(frozen=True, slots=True)
class Admitted:
    """The task waits; `dropped` was taken out for it, and its submitter is to be told why."""

    dropped: Task | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The task does not wait: QUEUE_FULL, and may come again."""

    reason: str


def admit(queue: Queue, task: Task, *, now: float) -> Admitted | Refused:
    """Let a task wait if there is room, or if the full policy makes some.

    1. There is room: it waits.
    2. `reject`: it is refused.
    3. `drop_lru`: the batch task that was queued first is dropped for it.
    4. `shed_batch`: a batch task is refused; for an interactive one the least urgent batch task
       is dropped.
    5. Nothing of the batch tier waits: it is refused. Promoted tasks are safe.
    """
    if len(queue) < queue.rules.capacity:
        queue.add(task, now=now)
        return Admitted()
    full = f"{len(queue)} tasks wait, as many as may"
    if queue.rules.full == "reject":
        return Refused(full)
    if queue.rules.full == "shed_batch" and task.tier == BATCH:
        return Refused(f"{full}; batch work is shed first")
    heap = queue.oldest_batch if queue.rules.full == "drop_lru" else queue.least_batch
    head = heap.head()
    if head is None:
        return Refused(f"{full}, none of them of the batch tier")
    queue.remove(head[3])
    queue.add(task, now=now)
    return Admitted(head[3], f"{full}; batch work makes room for what came later")


def admit_accepted(queue: Queue, task: Task, *, now: float) -> Admitted:
    """Let a task wait that was accepted before; what is dropped may be this task itself.

    What is interactive, or was promoted, is never dropped: it waits beyond the capacity.
    """
    if queue.rules.full != "reject":
        admitted = admit(queue, task, now=now)
        if isinstance(admitted, Admitted):
            return admitted
        if task.tier == BATCH:
            return Admitted(task, admitted.reason)
    queue.add(task, now=now)
    return Admitted()
