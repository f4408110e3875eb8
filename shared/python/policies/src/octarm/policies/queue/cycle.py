"""One scheduling cycle of a built-in policy: which waiting tasks go to which arms, now.

It changes the queue and the arms, and says what it decided. A cycle costs O(placed · log n):
lanes that are blocked sleep.
"""

from typing import Final

from msgspec import Struct

from octarm.policies.builtin.policy import Builtin
from octarm.policies.context import WINDOW
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.lanes import Blocker, Lane
from octarm.policies.queue.limits import Limit
from octarm.policies.queue.queue import Queue
from octarm.policies.queue.ranking import Key, Ranked
from octarm.policies.queue.spare import Spare
from octarm.policies.queue.tasks import Task

BEST: Final = 5


class Scored(Struct, frozen=True):
    """How much an arm was liked, the highest first, and by what."""

    arm_id: str
    score: float
    note: str


class Decision(Struct, frozen=True):
    """A task goes to an arm, one of the `ranked`, which were the best."""

    task: Task
    arm: Arm
    policy: Builtin
    reason: str
    ranked: list[Ranked]

    def liked(self) -> list[Key]:
        """Give what the best arms were compared by."""
        return [one[:-2] for one in self.ranked]

    def scores(self) -> list[Scored]:
        """Give the scores of the best five arms."""
        policy = self.policy
        return [Scored(str(key[-1]), policy.score(key), policy.note(key)) for key in self.liked()]


def place(queue: Queue, homes: Homes, *, now: float, window: int = WINDOW) -> list[Decision]:
    """Place up to `window` tasks by the queue's policy, in its order."""
    board, policy = queue.board, queue.policy
    awake, spare = board.awake, board.arms.spare
    decisions: list[Decision] = []
    lane: Lane | None = None
    while len(decisions) < window:
        if board.stirred():
            board.wake(now)
            lane = None
        if lane is None or not awake.holds_only(lane):
            lane = awake.first(now)
            if lane is None:
                break
        ranked, blocker = _reach(lane, spare, now)
        if blocker is None:
            decision = _decide(lane, ranked, policy, homes)
            decisions.append(decision)
            queue.fly(decision.task, decision.arm, now=now)
        else:
            board.sleep(lane, blocker, now=now)
        if lane.baton is not None:
            woken_by = lane.drop_baton()
            if woken_by is not None and woken_by is not blocker:
                board.touch(woken_by)
    return decisions


def placeable(queue: Queue, *, now: float) -> bool:
    """Whether a cycle would place anything now."""
    board = queue.board
    board.wake(now)
    return any(_reach(lane, board.arms.spare, now)[1] is None for lane in board.awake.lanes())


def _reach(lane: Lane, spare: Spare, now: float) -> tuple[list[Ranked], Blocker | None]:
    """Give the best arms for the first task of a lane, and what is in its way."""
    group = lane.group
    ranked = group.best(BEST)
    if not ranked:
        return ranked, group
    if lane.path is not None and group.task.slots == 1:
        share, arm = lane.path[0], ranked[0][-1]
        if arm.free <= arm.kept and not spare.may_use(share, arm):
            ranked = [one for one in ranked if spare.may_use(share, one[-1])]
            ranked = ranked or group.public.best(BEST)
            if not ranked:
                return ranked, group.public
    return ranked, limit_of(lane, now) if lane.limits else None


def limit_of(lane: Lane, now: float) -> Limit | None:
    """Give the first limit of a lane that has no room."""
    for limit in lane.limits:
        if not limit.has_room(now):
            return limit
    return None


def _decide(lane: Lane, ranked: list[Ranked], policy: Builtin, homes: Homes) -> Decision:
    """Choose for the first task of a lane; `ranked` are the best arms, at least one."""
    task, arm = lane.first(), ranked[0][-1]
    if lane.group.task.assigned_arm is not None:
        reason = "the pinned arm"
    else:
        reason = "the best of the arms with room" if len(ranked) > 1 else "the only arm with room"
    if policy.sticky:
        home = lane.group.members.get(homes.of(task) or "")
        if home is not None and lane.group.free(home) >= task.slots:
            others = [one for one in ranked if one[-1] is not home]
            liked = (*policy.liked(home, task.needs), home.version, home)
            arm, reason, ranked = home, "the arm of its session", [liked, *others[: BEST - 1]]
        homes.note(task, arm.facts.id)
    return Decision(task, arm, policy, reason, ranked)
