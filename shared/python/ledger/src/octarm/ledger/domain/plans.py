"""Where a task stands among others: its tree, and what it waits for; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

from octarm.ledger.domain.tasks import NewTask
from octarm.models.errors import Conflict, InvalidRequest, NotFound, OctarmError
from octarm.models.states import TaskState

MAX_DEPTH: Final = 5
MAX_CHILDREN: Final = 100
MAX_DESCENDANTS: Final = 1000
MAX_DEPENDANTS: Final = 1000


@dataclass(slots=True)
class Relative:
    """A task that others name: in the ledger, or accepted with them.

    `children`, `descendants` (of its root) and `dependants` count what there is already.
    """

    task_id: str
    tenant: str
    root_id: str
    depth: int
    state: TaskState
    cancelling: bool = False
    children: int = 0
    descendants: int = 0
    dependants: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task stands in its tree."""

    root_id: str
    depth: int


class Plan:
    """Places the tasks of one commit: parents and dependencies may be among them, in any order."""

    def __init__(self, relatives: Iterable[Relative]) -> None:
        self.relatives = {relative.task_id: relative for relative in relatives}
        self.stored = frozenset(self.relatives)
        self.places: dict[str, Place] = {}
        self.refused: dict[str, OctarmError] = {}
        self._descendants = {r.root_id: r.descendants for r in self.relatives.values()}

    def place(self, tasks: Sequence[NewTask]) -> None:
        """Fill `places` and `refused`; what is refused takes along what needs it."""
        by_id = {task.task_id: task for task in tasks}
        fresh = {task_id: task for task_id, task in by_id.items() if task_id not in self.stored}
        for task_id in [*(by_id.keys() & self.stored), *self._order(fresh)]:
            task = by_id[task_id]
            try:
                place = self.places[task_id] = self._place(task)
            except OctarmError as error:
                self.refused[task_id] = error
                continue
            if task_id in fresh:
                self.relatives[task_id] = Relative(
                    task_id, task.tenant, place.root_id, place.depth, TaskState.WAITING
                )

    def in_order(self, tasks: Iterable[NewTask]) -> list[NewTask]:
        """Put tasks behind those of the same commit that they need."""
        ranks = {task_id: rank for rank, task_id in enumerate(self.places)}
        return sorted(tasks, key=lambda task: ranks[task.task_id])

    def _order(self, fresh: Mapping[str, NewTask]) -> list[str]:
        """Put tasks behind those they need; refuses what needs itself by way of others."""
        open_ones = dict(fresh)
        while True:
            graph = {
                task_id: [need for need in _needs(task) if need in open_ones]
                for task_id, task in open_ones.items()
            }
            try:
                return list(TopologicalSorter(graph).static_order())
            except CycleError as error:
                cycle = list(dict.fromkeys(error.args[1]))
                for task_id in cycle:
                    del open_ones[task_id]
                    self.refused[task_id] = InvalidRequest(
                        f"{len(cycle)} tasks wait for each other: {' → '.join(cycle[:5])}",
                        "Leave out one of these dependencies.",
                        "INVALID_PLAN",
                    )

    def _place(self, task: NewTask) -> Place:
        needs = [self._need(need, task) for need in task.depends_on]
        parent = self._parent(task)
        for need in needs:
            need.dependants += 1
        if parent is None:
            return Place(task.task_id, 0)
        parent.children += 1
        self._descendants[parent.root_id] = self._descendants.get(parent.root_id, 0) + 1
        return Place(parent.root_id, parent.depth + 1)

    def _need(self, task_id: str, task: NewTask) -> Relative:
        need = self.relatives.get(task_id)
        if need is None or need.tenant != task.tenant:
            raise NotFound(f"depends_on names {task_id}, which does not exist")
        if need.dependants >= MAX_DEPENDANTS:
            raise InvalidRequest(
                f"at most {MAX_DEPENDANTS} tasks may wait for {task_id}",
                "Let a task in between wait for it, and the others for that.",
                "INVALID_PLAN",
            )
        return need

    def _parent(self, task: NewTask) -> Relative | None:
        if task.parent_id is None:
            return None
        parent = self.relatives.get(task.parent_id)
        if parent is None or parent.tenant != task.tenant:
            raise NotFound(f"the parent {task.parent_id} does not exist")
        if parent.state.is_terminal or parent.cancelling:
            how = "being cancelled" if parent.cancelling else f"{parent.state} already"
            raise Conflict(f"the parent is {how}", code="INVALID_STATE_TRANSITION")
        if parent.depth + 1 > MAX_DEPTH:
            raise InvalidRequest(f"tasks nest at most {MAX_DEPTH} deep", code="INVALID_PLAN")
        below = self._descendants.get(parent.root_id, 0)
        if parent.children >= MAX_CHILDREN or below >= MAX_DESCENDANTS:
            raise InvalidRequest(
                f"at most {MAX_CHILDREN} children and {MAX_DESCENDANTS} descendants of one root",
                code="INVALID_PLAN",
            )
        return parent

    def may_run(self, task: NewTask) -> bool:
        """Tell whether nothing that the task depends on keeps it waiting."""
        states = [self.relatives[need].state for need in task.depends_on]
        if task.on_dependency_failure == "continue":
            return all(state.is_terminal for state in states)
        return all(state is TaskState.COMPLETED for state in states)

    def any_ended(self, task: NewTask) -> bool:
        """Tell whether something that the task depends on has ended."""
        return any(self.relatives[need].state.is_terminal for need in task.depends_on)


def _needs(task: NewTask) -> list[str]:
    return [*task.depends_on, *([task.parent_id] if task.parent_id else [])]
