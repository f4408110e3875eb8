"""Where tasks stand among others."""

from typing import Any

import pytest

from octarm.ledger.domain.plans import (
    MAX_CHILDREN,
    MAX_DEPENDANTS,
    MAX_DEPTH,
    MAX_DESCENDANTS,
    Place,
    Plan,
    Relative,
)
from octarm.ledger.domain.tasks import NewTask
from octarm.models.errors import Conflict, InvalidRequest, NotFound, OctarmError
from octarm.models.ids import new_id
from octarm.models.states import TaskState
from tests.support.ledger import a_new_task

MOVED_ON = "INVALID_STATE_TRANSITION"


def a_relative(task_id: str = "", **fields: Any) -> Relative:
    task_id = task_id or new_id("tsk")
    given: dict[str, Any] = {
        "tenant": "default",
        "root_id": task_id,
        "depth": 0,
        "state": TaskState.RUNNING,
    }
    return Relative(task_id, **given | fields)


def ids(number: int) -> list[str]:
    return [new_id("tsk") for _ in range(number)]


def refusal(task: NewTask, *relatives: Relative) -> OctarmError:
    plan = Plan(relatives)
    plan.place([task])
    assert plan.places == {}
    return plan.refused[task.task_id]


class TestADependency:
    def test_may_be_in_the_same_commit_before_or_behind(self) -> None:
        one, two, three = ids(3)
        tasks = [
            a_new_task(task_id=one, depends_on=[three]),
            a_new_task(task_id=two, depends_on=[one]),
            a_new_task(task_id=three),
        ]
        plan = Plan([])

        plan.place(tasks)

        assert (set(plan.places), plan.refused) == ({one, two, three}, {})
        assert [task.task_id for task in plan.in_order(tasks)] == [three, one, two]
        assert not plan.may_run(tasks[0])
        assert not plan.any_ended(tasks[0])

    @pytest.mark.bad_input(14)
    def test_refuses_a_cycle_and_what_hangs_on_it_and_nothing_else(self) -> None:
        one, two, three, behind, free = ids(5)
        tasks = [
            a_new_task(task_id=one, depends_on=[three]),
            a_new_task(task_id=two, depends_on=[one]),
            a_new_task(task_id=three, parent_task_id=two),
            a_new_task(task_id=behind, depends_on=[two]),
            a_new_task(task_id=free),
        ]
        plan = Plan([])

        plan.place(tasks)

        assert set(plan.places) == {free}
        assert {plan.refused[task_id].code for task_id in (one, two, three)} == {"INVALID_PLAN"}
        assert isinstance(plan.refused[behind], NotFound)

    @pytest.mark.bad_input(14)
    def test_finds_every_cycle(self) -> None:
        one, two, three, four = ids(4)
        plan = Plan([])

        plan.place(
            [
                a_new_task(task_id=one, depends_on=[two]),
                a_new_task(task_id=two, depends_on=[one]),
                a_new_task(task_id=three, depends_on=[four]),
                a_new_task(task_id=four, depends_on=[three]),
            ]
        )

        assert set(plan.refused) == {one, two, three, four}

    @pytest.mark.bad_input(14)
    def test_must_exist_for_this_tenant(self) -> None:
        need = a_relative(tenant="other")
        task = a_new_task(depends_on=[need.task_id])

        assert isinstance(refusal(task, need), NotFound)
        assert isinstance(refusal(task), NotFound)

    @pytest.mark.bad_input(14)
    def test_has_a_bounded_number_of_dependants(self) -> None:
        need = a_relative(dependants=MAX_DEPENDANTS - 2)
        plan = Plan([need])
        first, second, third = (a_new_task(depends_on=[need.task_id]) for _ in range(3))

        plan.place([first, second, third])

        assert set(plan.places) == {first.task_id, second.task_id}
        assert set(plan.refused) == {third.task_id}
        assert plan.refused[third.task_id].code == "INVALID_PLAN"

    @pytest.mark.parametrize(
        ("policy", "state", "may_run"),
        [
            ("fail", TaskState.COMPLETED, True),
            ("fail", TaskState.FAILED, False),
            ("skip", TaskState.CANCELLED, False),
            ("continue", TaskState.FAILED, True),
            ("continue", TaskState.RUNNING, False),
        ],
    )
    def test_keeps_a_task_waiting_by_its_policy(
        self, policy: str, state: TaskState, may_run: bool
    ) -> None:
        need = a_relative(state=state)
        task = a_new_task(depends_on=[need.task_id], on_dependency_failure=policy)
        plan = Plan([need])

        plan.place([task])

        assert plan.may_run(task) is may_run
        assert plan.any_ended(task) is state.is_terminal


class TestAParent:
    def test_gives_its_child_root_and_depth(self) -> None:
        root, child, leaf = ids(3)
        plan = Plan([a_relative(root, root_id="tsk_0", depth=1)])

        plan.place(
            [
                a_new_task(task_id=leaf, parent_task_id=child),
                a_new_task(task_id=child, parent_task_id=root),
            ]
        )

        assert {key: (p.root_id, p.depth) for key, p in plan.places.items()} == {
            child: ("tsk_0", 2),
            leaf: ("tsk_0", 3),
        }

    def test_places_again_what_is_there_already(self) -> None:
        root, child = a_relative(), new_id("tsk")
        plan = Plan([root, a_relative(child, root_id=root.task_id, depth=1)])

        plan.place([a_new_task(task_id=child, parent_task_id=root.task_id)])

        assert set(plan.places) == {child}

    @pytest.mark.parametrize(
        ("fields", "kind", "code", "said"),
        [
            ({"tenant": "other"}, NotFound, "TASK_NOT_FOUND", "parent tsk_"),
            ({"state": TaskState.COMPLETED}, Conflict, MOVED_ON, "parent is completed already"),
            ({"cancelling": True}, Conflict, MOVED_ON, "parent is being cancelled"),
            ({"depth": MAX_DEPTH}, InvalidRequest, "INVALID_PLAN", f"at most {MAX_DEPTH} deep"),
            ({"children": MAX_CHILDREN}, InvalidRequest, "INVALID_PLAN", "children"),
            ({"descendants": MAX_DESCENDANTS}, InvalidRequest, "INVALID_PLAN", "descendants"),
        ],
    )
    def test_takes_no_child(
        self, fields: dict[str, Any], kind: type[OctarmError], code: str, said: str
    ) -> None:
        parent = a_relative(**fields)

        found = refusal(a_new_task(parent_task_id=parent.task_id), parent)

        assert isinstance(found, kind)
        assert (found.code, said in found.message) == (code, True)

    @pytest.mark.parametrize(
        "fields",
        [
            {"depth": MAX_DEPTH - 1},
            {"children": MAX_CHILDREN - 1},
            {"descendants": MAX_DESCENDANTS - 1},
        ],
    )
    def test_takes_the_last_child_that_it_may(self, fields: dict[str, Any]) -> None:
        parent = a_relative(**fields)
        plan, last = Plan([parent]), a_new_task(parent_task_id=parent.task_id)

        plan.place([last])

        assert set(plan.places) == {last.task_id}

    def test_stands_at_the_root_of_its_own_tree(self) -> None:
        plan, task = Plan([]), a_new_task()

        plan.place([task])

        assert plan.places[task.task_id] == Place(task.task_id, 0)

    def test_counts_the_descendants_of_a_root_in_one_commit(self) -> None:
        root = a_relative(descendants=MAX_DESCENDANTS - 3)
        below = a_relative(root_id=root.task_id, depth=1, descendants=MAX_DESCENDANTS - 3)
        parents = [root.task_id, below.task_id] * 2
        plan = Plan([root, below])

        plan.place([a_new_task(parent_task_id=parent) for parent in parents])

        assert (len(plan.places), len(plan.refused)) == (3, 1)

    def test_counts_the_descendants_of_a_root_that_came_in_the_same_commit(self) -> None:
        root, *below = (a_new_task(task_id=task_id) for task_id in ids(11))
        chain = [root]
        tasks = [root]
        for number, one in enumerate(below):
            parent = chain[0] if number % 2 else chain[-1]
            tasks.append(a_new_task(task_id=one.task_id, parent_task_id=parent.task_id))
            chain = [root, tasks[-1]] if number % 2 else chain
        plan = Plan([])

        plan.place(tasks)

        assert plan.refused == {}
        assert plan._descendants == {root.task_id: 10}

    def test_must_exist(self) -> None:
        assert isinstance(refusal(a_new_task(parent_task_id=new_id("tsk"))), NotFound)

    @pytest.mark.bad_input(14)
    def test_counts_the_children_of_one_commit(self) -> None:
        parent = a_relative()
        tasks = [a_new_task(parent_task_id=parent.task_id) for _ in range(MAX_CHILDREN + 5)]
        plan = Plan([parent])

        plan.place(tasks)

        assert (len(plan.places), len(plan.refused)) == (MAX_CHILDREN, 5)
