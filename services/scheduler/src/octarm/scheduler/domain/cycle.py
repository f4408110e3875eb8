"""One scheduling cycle of a built-in policy: what goes where, in the words of the bus."""

from functools import lru_cache

from msgspec import Struct

from octarm.models.hot import Score
from octarm.policies.builtin import BUILTIN
from octarm.policies.context import WINDOW
from octarm.policies.queue import cycle
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.ranking import Key
from octarm.scheduler.domain.fleet import Fleet, Pool
from octarm.scheduler.domain.queue import ShardQueue
from octarm.scheduler.domain.tasks import QueuedTask


class Placement(Struct, frozen=True, gc=False):
    """A task goes to an arm, for a reason, ahead of others with these scores."""

    task: QueuedTask
    pool: Pool
    reason: str
    scores: list[Score]


def place(
    queue: ShardQueue,
    fleet: Fleet,
    homes: Homes,
    *,
    now: float,
    monotonic: float,
    window: int = WINDOW,
) -> list[Placement]:
    """Place up to `window` tasks by the queue's policy, and count them as in flight.

    `now` is in Unix seconds, `monotonic` is what the ages of flights are counted by.
    """
    placements = []
    for decision in cycle.place(queue, homes, now=now, window=window):
        task, policy = decision.task, decision.policy.name
        assert isinstance(task, QueuedTask), "every task here came from READY"
        pool = fleet.placed(decision.arm.facts.id, task, now=monotonic)
        scores = [_score(policy, key) for key in decision.liked()]
        placements.append(Placement(task, pool, decision.reason, scores))
    return placements


@lru_cache(16_384)
def _score(policy: str, key: Key) -> Score:
    by = BUILTIN[policy]
    return Score(str(key[-1]), by.score(key), by.note(key)[:1000])
