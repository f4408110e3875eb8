"""The platform's policy says the same in Starlark as the built-in `priority` does in Python."""

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from octarm.policies.context import Context
from octarm.policies.language.evaluator import Evaluator
from octarm.policies.queue.queue import Queue
from tests.support.waiting import NOW, a_queue, a_task, an_arm, pairs, placed

EVALUATOR = Evaluator()
POLICY = EVALUATOR.compile("def schedule(ctx):\n    return platform_schedule(ctx)\n")
SOURCE = EVALUATOR.compile(
    "def schedule(ctx):\n    return [get_platform_scheduler_source()]\n",
)


@st.composite
def queues(draw: st.DrawFn) -> Queue:
    queue = a_queue()
    for n in range(draw(st.integers(0, 5))):
        an_arm(
            queue.arms,
            f"a-{n}",
            draw(st.sampled_from(["", "code", "code english"])),
            slots=draw(st.integers(0, 3)),
            status=draw(st.sampled_from(["online", "online", "degraded", "draining"])),
            cost_tier=draw(st.integers(1, 3)),
            takes_any=draw(st.booleans()),
        )
    for n in range(draw(st.integers(0, 12))):
        task = a_task(
            f"t-{n:02}",
            queued_at=NOW - draw(st.sampled_from([0, 1, 60, 299, 300, 301])),
            needs=draw(st.sampled_from(["", "code", "code english", "absent"])),
            tier=draw(st.integers(0, 1)),
            priority=draw(st.integers(1, 10)),
            assigned_arm=draw(st.sampled_from([None, None, None, "a-1"])),
        )
        queue.add(task, now=NOW)
    return queue


@given(queue=queues())
def test_places_the_same_tasks_on_the_same_arms(queue: Queue) -> None:
    context = Context(
        int(NOW * 1000),
        tuple(task.facts(NOW) for task in queue),
        tuple(sorted((arm.seen() for arm in queue.arms.by_id.values()), key=lambda arm: arm.id)),
    )
    text = msgspec.json.encode(context, order="deterministic").decode()

    actions = json.loads(EVALUATOR.decide(POLICY, EVALUATOR.context(text)))

    assert [(it["task"], it["arm"]) for it in actions] == pairs(placed(queue))


def test_its_source_is_a_policy_that_decides_the_same() -> None:
    queue = a_queue()
    an_arm(queue.arms, slots=2)
    context = Context(
        1, (a_task().facts(NOW),), tuple(it.seen() for it in queue.arms.by_id.values())
    )
    frozen = EVALUATOR.context(msgspec.json.encode(context, order="deterministic").decode())
    (source,) = json.loads(EVALUATOR.decide(SOURCE, frozen))

    again = EVALUATOR.decide(EVALUATOR.compile(source), frozen)

    assert again == EVALUATOR.decide(POLICY, frozen)
    assert len(json.loads(again)) == 1
