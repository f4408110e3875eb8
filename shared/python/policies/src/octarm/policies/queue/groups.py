"""Tasks that the same arms can take, and those arms in the order of the policy."""

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from octarm.policies.context import TaskFacts
from octarm.policies.eligibility import eligible
from octarm.policies.queue.lanes import Blocker
from octarm.policies.queue.orders import Order
from octarm.policies.queue.tasks import Task

if TYPE_CHECKING:
    from octarm.policies.queue.arm import Arm
    from octarm.policies.queue.arms import Arms

Key = tuple[float | str, ...]
Needs = tuple[frozenset[str], str | None, int]
# The key (which ends in the arm's id), the arm's version at that time, the arm: flat, since nested
# tuples take twice as long to compare.
Ranked = tuple[Any, ...]

FEW: Final = 16
# So often it is tried again to keep an arm for a task that is past its patience.
RETRY_S: Final = 1.0


class Group(Blocker):
    """The waiting tasks with one (needs, pinned arm, slots), and the arms that may take them.

    `public` are the same arms without the slots that are kept: who may not use those waits there.

    `ranked` holds the arms with room, the most liked first. Placing on an arm only ever makes
    it less liked, so it is enough to look again at an arm when it comes to the front; arms that
    have become more liked are read from a log.
    """

    __slots__ = (
        "_arms",
        "_cursor",
        "_entries",
        "_epoch",
        "_ranked",
        "members",
        "public",
        "reserved",
        "task",
    )

    def __init__(self, arms: "Arms", task: TaskFacts, waiting: Order) -> None:
        super().__init__(waiting)
        self.task = task
        self.public: Group = self
        self.members: dict[str, Arm] = {}
        self.reserved: Arm | None = None
        self._arms = arms
        self._epoch = -1
        self._cursor = 0
        self._entries: dict[Arm, Ranked] = {}
        self._ranked: list[Ranked] = []

    def has_room(self, now: float) -> bool:
        """Whether an arm has room."""
        return bool(self.best(1))

    def best(self, count: int) -> list[Ranked]:
        """Give up to `count` arms with room, the most liked first, with what they are liked by."""
        self._catch_up()
        ranked, place = self._ranked, 0
        most = min(count, len(ranked))
        while place < most:
            one = ranked[place]
            arm = one[-1]
            if one[-2] == arm.version and (arm.governor is None or arm.governor.open):
                place += 1
            else:
                del ranked[place]
                self._insert(arm)
                most = min(count, len(ranked))
        return ranked[:count]

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
            arm.version += 1

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

    def _catch_up(self) -> None:
        arms = self._arms
        if self._epoch != arms.epoch:
            self._find_members()
            self._rebuild()
        elif self._cursor != arms.log_end:
            changed = arms.since(self._cursor)
            self._cursor = arms.log_end
            if changed is None:
                self._rebuild()
            elif len(changed) > FEW:
                self._replace(changed)
            else:
                for arm in changed:
                    if self in arm.groups:
                        self._update(arm)

    def _find_members(self) -> None:
        arms = self._arms
        self.leave()
        found = eligible(self.task, arms.facts())
        self.members = {facts.id: arms.by_id[facts.id] for facts in found}
        for arm in self.members.values():
            arm.groups[self] = None
        self._epoch = arms.epoch

    def _rebuild(self) -> None:
        slots, entry = self.task.slots, self._entry
        self._entries = {
            arm: entry(arm) for arm in self.members.values() if self.free(arm) >= slots
        }
        self._ranked = sorted(self._entries.values())
        self._cursor = self._arms.log_end

    def _replace(self, changed: "dict[Arm, None]") -> None:
        """Put many arms where they belong now; what is sorted already costs the sort nothing."""
        ranked = [one for one in self._ranked if one[-1] not in changed]
        entries, slots = self._entries, self.task.slots
        for arm in changed:
            if self in arm.groups and self.free(arm) >= slots:
                entries[arm] = entry = self._entry(arm)
                ranked.append(entry)
            else:
                entries.pop(arm, None)
        ranked.sort()
        self._ranked = ranked

    def _update(self, arm: "Arm") -> None:
        known = self._entries.get(arm)
        if known is not None:
            del self._ranked[bisect_left(self._ranked, known)]
        self._insert(arm)

    def _insert(self, arm: "Arm") -> None:
        if self.free(arm) >= self.task.slots:
            entry = self._entries[arm] = self._entry(arm)
            insort(self._ranked, entry)
        else:
            self._entries.pop(arm, None)

    def _entry(self, arm: "Arm") -> Ranked:
        """Say how much an arm is liked now: once for all groups, where needs do not matter."""
        entry = arm.entry
        if entry[-2] != arm.version or self._arms.by_needs:
            entry = arm.entry = (*self._arms.prefer(arm, self.task.needs), arm.version, arm)
        return entry


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

    def of(self, needs: Needs, waiting: Callable[[], Order]) -> Group:
        """Give the group of tasks that the same arms can take; `waiting` makes its order."""
        group = self._groups.get(needs)
        if group is None:
            task = TaskFacts(id="", needs=needs[0], assigned_arm=needs[1], slots=needs[2])
            group = self._groups[needs] = Group(self._arms, task, waiting())
            group.public = Public(self._arms, task, waiting())
        return group

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
