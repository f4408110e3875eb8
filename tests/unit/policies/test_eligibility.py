from octarm.policies.context import ArmFacts, TaskFacts
from octarm.policies.eligibility import eligible, refusal, suits


def test_an_arm_suits_that_has_every_capability() -> None:
    task = TaskFacts("t", needs=frozenset({"code", "rust"}))

    assert suits(task, ArmFacts("a", capabilities=frozenset({"code", "rust", "go"})))
    assert not suits(task, ArmFacts("a", capabilities=frozenset({"code"})))


def test_an_arm_that_wants_to_be_named_takes_only_what_names_it_or_a_capability() -> None:
    arm = ArmFacts("a", capabilities=frozenset({"gpu"}), takes_any=False)

    assert not suits(TaskFacts("t"), arm)
    assert suits(TaskFacts("t", needs=frozenset({"gpu"})), arm)
    assert suits(TaskFacts("t", assigned_arm="a"), arm)


def test_a_pinned_task_suits_no_other_arm() -> None:
    assert not suits(TaskFacts("t", assigned_arm="a"), ArmFacts("b"))


def test_every_refusal_has_its_kind() -> None:
    arm = ArmFacts("a", capabilities=frozenset({"x"}), takes_any=False)
    cases = {
        "pinned": (TaskFacts("t", assigned_arm="b"), arm, 1),
        "incapable": (TaskFacts("t", needs=frozenset({"y"})), arm, 1),
        "arm_away": (TaskFacts("t"), ArmFacts("a", status="offline"), 1),
        "too_large": (TaskFacts("t", slots=3), ArmFacts("a", slots=4, largest=2), 4),
        "arm_full": (TaskFacts("t", slots=2), ArmFacts("a", slots=2), 1),
    }

    found = {kind: refusal(task, it, free=free) for kind, (task, it, free) in cases.items()}

    assert {kind: why.kind if why else None for kind, why in found.items()} == {k: k for k in cases}
    unnamed = refusal(TaskFacts("t"), arm, free=1)
    assert unnamed is not None
    assert unnamed.kind == "incapable"
    assert refusal(TaskFacts("t"), ArmFacts("a"), free=1) is None


def test_degraded_arms_count_only_when_no_other_is_online() -> None:
    slow, fast = ArmFacts("slow", status="degraded"), ArmFacts("fast")

    assert eligible(TaskFacts("t"), [slow, fast]) == (fast,)
    assert eligible(TaskFacts("t"), [slow]) == (slow,)
    assert eligible(TaskFacts("t"), [ArmFacts("off", status="offline")]) == ()


def test_an_arm_is_full_for_a_wide_task_that_none_of_its_instances_has_room_for() -> None:
    arm = ArmFacts("a", slots=8, free=4, largest=4, widest=2)

    refused = refusal(TaskFacts("t", slots=3), arm, free=4)

    assert refused is not None
    assert (refused.kind, refused.why) == (
        "arm_full",
        "a is full: no instance has 3 slots free, 2 at most",
    )
    assert refusal(TaskFacts("t", slots=2), arm, free=4) is None
    assert refusal(TaskFacts("t"), arm, free=4) is None
