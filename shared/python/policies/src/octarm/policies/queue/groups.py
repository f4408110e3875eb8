"""Tasks that the same arms can take, and those arms in the order of the policy."""

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from octarm.policies.context import TaskFacts
from octarm.policies.eligibility import eligible
from octarm.policies.queue.lanes import Blocker
from octarm.policies.queue.orders import Order
from octarm.policies.queue.ranking import Ranked, Ranking
from octarm.policies.queue.tasks import Task

if TYPE_CHECKING:
    from octarm.policies.queue.arm import Arm
    from octarm.policies.queue.arms import Arms

Needs = tuple[frozenset[str], str | None, int]

# So often it is tried again to keep an arm for a task that is past its patience.
RETRY_S: Final = 1.0
NONE: Final[frozenset[str]] = frozenset()
# What a task of one slot may use of an arm, as `Group.free` says it, but for its provider.
ROOM: Final = attrgetter("room")


class Group(Blocker):
    """The waiting tasks with one (needs, pinned arm, slots), and the arms that may take them.

    `public` are the same arms without the slots that are kept: who may not use those waits there.
    """

    __slots__ = ("_arms", "_epoch", "_ranking", "members", "public", "reserved", "task")

    def __init__(self, arms: "Arms", task: TaskFacts, waiting: Order) -> None:
        super().__init__(waiting)
        self.task = task
        self.public: Group = self
        self.members: dict[str, Arm] = {}
        self.reserved: Arm | None = None
        self._arms = arms
        self._epoch = -1
        self._ranking: Ranking

    def has_room(self, now: float) -> bool:
        """Whether an arm has room."""
        return bool(self.best(1))

    def best(self, count: int) -> list[Ranked]:
        """Give up to `count` arms with room, the most liked first, with what they are liked by."""
        if self._epoch != self._arms.epoch:
            self._find_members()
        return self._ranking.best(count)

    def look_again_at(self, task: Task, patience_s: float, *, now: float) -> float | None:
        """Say when an arm is to be kept for it: only if it wants several slots at once."""
        if task.slots == 1 or self.reserved is not None:
            return None
        due = task.queued_at + patience_s
        return due if due > now else now + RETRY_S

    def reserve(self) -> None:
        """Keep an arm for tasks that want more slots than ever come free together.

        Of the arms that are large enough and not reserved, the one with most free slots, then
        the smallest id.
        """
        large = [
            (-arm.free, arm.facts.id, arm)
            for arm in self.members.values()
            if arm.largest >= self.task.slots and arm.reserved is None
        ]
        if self.reserved is None and large:
            self.reserved = arm = min(large)[2]
            arm.reserved = self
            arm.recount()

    def free(self, arm: "Arm") -> int:
        """Say how many slots of an arm this group may take now."""
        if arm.reserved is not None and arm.reserved is not self:
            return 0
        if arm.governor is not None and not arm.governor.open:
            return 0
        return arm.free if self.task.slots == 1 else min(arm.free, arm.largest, arm.widest)

    def leave(self) -> None:
        """Let go of the arms: nobody waits here any more."""
        for arm in self.members.values():
            arm.groups.pop(self, None)
        self.members = {}
        self._epoch = -1

    def _find_members(self) -> None:
        arms = self._arms
        self.leave()
        found = eligible(self.task, arms.facts())
        self.members = {facts.id: arms.by_id[facts.id] for facts in found}
        for arm in self.members.values():
            arm.groups[self] = None
        self._epoch = arms.epoch
        self._ranking = arms.groups.ranking(self)


class Public(Group):
    """The arms of a group without the slots that are kept on them."""

    __slots__ = ()

    def free(self, arm: "Arm") -> int:
        """Say how many slots of an arm anybody may take."""
        return super().free(arm) - arm.kept

    def look_again_at(self, task: Task, patience_s: float, *, now: float) -> float | None:
        """Say that only an ending can help."""
        return None


class Groups:
    """The groups of waiting tasks, by what their tasks need."""

    def __init__(self, arms: "Arms") -> None:
        self._arms = arms
        self._groups: dict[Needs, Group] = {}
        self._rankings: dict[tuple[frozenset[Arm], type[Group], frozenset[str]], Ranking] = {}
        self._epoch = -1

    def of(self, needs: Needs, waiting: Callable[[], Order]) -> Group:
        """Give the group of tasks that the same arms can take; `waiting` makes its order."""
        group = self._groups.get(needs)
        if group is None:
            task = TaskFacts(id="", needs=needs[0], assigned_arm=needs[1], slots=needs[2])
            group = self._groups[needs] = Group(self._arms, task, waiting())
            group.public = Public(self._arms, task, waiting())
        return group

    def ranking(self, group: Group) -> Ranking:
        """Give the arms of a group in order.

        All groups that need one slot of the same arms share one, unless the policy looks at what
        they need; for one slot nothing else that a group is matters.
        """
        arms, task = self._arms, group.task
        if self._epoch != arms.epoch:
            self._rankings.clear()
            self._epoch = arms.epoch
        members = frozenset(group.members.values())
        if task.slots > 1:
            return self._ranked(members, task, group.free)
        key = members, type(group), NONE if arms.fit is None else task.needs
        found = self._rankings.get(key)
        if found is None:
            free = group.free if isinstance(group, Public) else ROOM
            found = self._rankings[key] = self._ranked(members, task, free)
        return found

    def _ranked(
        self, members: "frozenset[Arm]", task: TaskFacts, free: "Callable[[Arm], int]"
    ) -> Ranking:
        fit = self._arms.fit
        fits = None if fit is None else {arm: fit(arm, task.needs) for arm in members}
        return Ranking(self._arms, members, fits=fits, free=free, slots=task.slots)

    def waiting(self) -> list[Group]:
        """Give the groups with waiting tasks; the others are forgotten."""
        for needs, group in list(self._groups.items()):
            if not group.lanes:
                self._leave(group)
                del self._groups[needs]
        return list(self._groups.values())

    def forget(self) -> None:
        """Forget who waits."""
        for group in self._groups.values():
            self._leave(group)
        self._groups.clear()

    def _leave(self, group: Group) -> None:
        group.leave()
        group.public.leave()
