"""By which criteria each built-in policy orders tasks and arms."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octarm.policies.builtin import BUILTIN, DEFAULT, priority, weighted
from octarm.policies.queue.homes import Homes
from tests.support.waiting import NOW, a_queue, a_task, an_arm, pairs, placed


def order_of(policy: str, *tasks: object) -> list[str]:
    """Give the order in which one slot is given to tasks."""
    queue = a_queue(policy)
    an_arm(queue.arms, slots=len(tasks))
    for task in tasks:
        queue.add(task, now=NOW)  # type: ignore[arg-type]
    return [task_id for task_id, _ in pairs(placed(queue))]


def chosen(policy: str, arms: dict[str, Any], count: int = 1, *, needs: str = "") -> list[str]:
    """Give the arms that so many tasks go to."""
    queue = a_queue(policy)
    for arm_id, facts in arms.items():
        an_arm(queue.arms, arm_id, **facts)
    for number in range(count):
        queue.add(a_task(f"t-{number}", needs=needs), now=NOW)
    return [arm_id for _, arm_id in pairs(placed(queue))]


def test_the_policies_of_the_platform_have_names_and_criteria() -> None:
    assert sorted(BUILTIN) == [
        "affinity",
        "cheapest",
        "deadline",
        "fair_share",
        "fifo",
        "least_loaded",
        "most_free",
        "priority",
        "round_robin",
        "weighted",
    ]
    assert DEFAULT.name == "priority"


def test_priority_lets_waiting_count_for_urgency() -> None:
    fresh = a_task("fresh", priority=4, queued_at=NOW)
    waited = a_task("waited", priority=5, queued_at=NOW - 61)
    batch = a_task("batch", priority=1, tier=1)

    assert order_of("priority", batch, fresh, waited) == ["waited", "fresh", "batch"]


def test_fifo_does_not_look_at_priority() -> None:
    urgent = a_task("urgent", priority=1)
    first = a_task("first", priority=9, queued_at=NOW - 1)

    assert order_of("fifo", urgent, first) == ["first", "urgent"]


def test_deadline_takes_the_earliest_and_treats_none_as_ten_minutes() -> None:
    near = a_task("near", deadline=NOW + 10)
    far = a_task("far", deadline=NOW + 1_000)
    none = a_task("none")

    assert order_of("deadline", far, none, near) == ["near", "none", "far"]


def test_deadline_prefers_the_arm_that_answers_fastest() -> None:
    assert chosen("deadline", {"slow": {"latency_s": 2.0}, "quick": {"latency_s": 0.5}}) == [
        "quick"
    ]


def test_equal_tasks_go_by_their_ids() -> None:
    assert order_of("priority", a_task("b"), a_task("a")) == ["a", "b"]


def test_priority_spreads_by_the_share_of_slots_in_use() -> None:
    assert chosen("priority", {"a": {"slots": 1}, "b": {"slots": 2}}, 3) == ["a", "b", "b"]


def test_least_loaded_believes_a_reported_load() -> None:
    assert chosen("least_loaded", {"a": {"load": 0.9, "slots": 4}, "b": {"slots": 4}}) == ["b"]


def test_round_robin_goes_round() -> None:
    three = {name: {"slots": 9} for name in "abc"}

    assert chosen("round_robin", three, 5) == ["a", "b", "c", "a", "b"]


def test_most_free_counts_slots_not_shares() -> None:
    assert chosen("most_free", {"small": {"slots": 1}, "large": {"slots": 10}}, 2) == [
        "large",
        "large",
    ]


def test_cheapest_fills_the_cheap_arm_first() -> None:
    arms = {"dear": {"slots": 9, "cost_tier": 4}, "cheap": {"slots": 2}}

    assert chosen("cheapest", arms, 3) == ["cheap", "cheap", "dear"]


def test_weighted_scores_fit_room_success_and_cost() -> None:
    queue = a_queue("weighted")
    arm = an_arm(queue.arms, "a", "code draw", slots=4, cost_tier=2, success=0.5)

    policy = weighted.POLICY
    scores = [policy.score(policy.liked(arm, frozenset(it))) for it in (["code"], [])]
    assert scores == pytest.approx([0.2 + 0.2 + 0.15 + 0.06, 0.41], abs=1e-4)


def test_weighted_prefers_the_specialist() -> None:
    arms = {"all": {"capabilities": "code draw read"}, "special": {"capabilities": "code"}}

    assert chosen("weighted", arms, needs="code") == ["special"]


def test_affinity_stays_with_the_arm_of_the_session_while_it_has_room() -> None:
    queue, homes = a_queue("affinity"), Homes()
    an_arm(queue.arms, "a", slots=2)
    an_arm(queue.arms, "b", slots=2)
    for number in range(4):
        labels = {"session": "s"} if number else {}
        queue.add(a_task(f"t-{number}", labels=labels), now=NOW)

    decisions = placed(queue, homes=homes)

    # t-0 has no session; t-1 is its session's first and goes to the least busy arm.
    assert [arm for _, arm in pairs(decisions)] == ["a", "b", "b", "a"]
    assert decisions[2].reason == "the arm of its session"
    assert [it.arm_id for it in decisions[2].scores()] == ["b", "a"]


def test_homes_forget_the_session_that_was_silent_longest() -> None:
    homes = Homes(most=2)
    for name in ("x", "y", "x", "z"):
        homes.note(a_task(labels={"session": name}), f"arm-{name}")

    assert homes.of(a_task(labels={"session": "y"})) is None
    assert homes.of(a_task(labels={"session": "x"})) == "arm-x"
    assert homes.of(a_task()) is None


def test_a_decision_keeps_its_reason_and_the_best_five() -> None:
    queue = a_queue()
    for number in range(7):
        an_arm(queue.arms, f"a-{number}", slots=4, cost_tier=number % 5 + 1)
    queue.add(a_task(), now=NOW)

    (decision,) = placed(queue)

    assert decision.reason == "the best of the arms with room"
    scores = decision.scores()
    assert [it.arm_id for it in scores] == ["a-0", "a-5", "a-1", "a-6", "a-2"]
    assert scores[0].score == 1.0
    assert scores[0].note == "share of slots in use 0, cost tier 1"


def test_a_decision_says_when_there_was_no_choice() -> None:
    queue = a_queue()
    an_arm(queue.arms, "a-1", slots=2)
    queue.add(a_task("free"), now=NOW)
    queue.add(a_task("pinned", assigned_arm="a-1"), now=NOW)

    reasons = [it.reason for it in placed(queue)]

    assert reasons == ["the only arm with room", "the pinned arm"]


def test_a_key_that_begins_with_a_name_has_no_score() -> None:
    assert DEFAULT.score(("a-1",)) == 0.0
    assert DEFAULT.note(("a-1",)) == "share of slots in use a-1"


@pytest.mark.parametrize(
    ("latency_s", "together"),
    [(0.0, 1), (1.0, 1), (0.9, 4), (0.03, 8), (0.001, 16), (1e-9, 16)],
)
def test_priority_gives_an_arm_together_what_is_over_at_once(
    latency_s: float, together: int
) -> None:
    two = {name: {"slots": 16, "latency_s": latency_s} for name in "ab"}

    first_turns = ["a"] * together + ["b"] * together
    assert chosen("priority", two, 2 * together) == first_turns


def test_arms_of_few_slots_get_short_work_one_by_one() -> None:
    two = {name: {"slots": 4, "latency_s": 0.9} for name in "ab"}

    assert chosen("priority", two, 4) == ["a", "b", "a", "b"]


@pytest.mark.parametrize("policy", ["affinity", "fair_share", "fifo", "priority"])
@settings(max_examples=30, deadline=None)
@given(
    latency_s=st.floats(0, 2),
    slots=st.integers(1, 40),
    arms=st.integers(2, 6),
    share=st.floats(0, 1),
)
def test_equal_arms_never_differ_by_more_than_one_step(
    policy: str, latency_s: float, slots: int, arms: int, share: float
) -> None:
    equal = {f"a-{n}": {"slots": slots, "latency_s": latency_s} for n in range(arms)}

    used = Counter(chosen(policy, equal, int(share * slots * arms)))

    step = 1.0
    if 0 < latency_s < priority.SHORT_S:
        step = max(priority.TOGETHER_S // max(latency_s, priority.SHORTEST_S), slots // 4, 1)
    assert max(used.values(), default=0) - min(used[arm] for arm in equal) <= step
