from octarm.policies.actions import Action, Checked, Dispatch, Reject, Wait
from octarm.policies.shadow import EXAMPLES, Difference, Tally, compare


def checked(*actions: Action) -> Checked:
    return Checked(actions)


LIVE = checked(Dispatch("t1", "a"), Dispatch("t2", "a"), Reject("t3"), Dispatch("t4", "a"))
SHADOW = checked(
    Dispatch("t1", "a", "another reason"), Dispatch("t2", "b"), Wait("x"), Dispatch("t5", "a")
)


def test_names_the_tasks_that_fare_otherwise() -> None:
    assert compare(LIVE, SHADOW) == [
        Difference("t2", "a", "b"),
        Difference("t3", "(rejected)", "(waits)"),
        Difference("t4", "a", "(waits)"),
        Difference("t5", "(waits)", "a"),
    ]
    assert compare(LIVE, LIVE) == []


def test_counts_cycles_and_what_differs() -> None:
    tally = Tally()

    tally.add(LIVE, SHADOW)
    tally.add(LIVE, LIVE)
    tally.add_failure("timeout")

    assert (tally.cycles, tally.cycles_equal, dict(tally.failures)) == (3, 1, {"timeout": 1})
    assert (tally.placed_live, tally.placed_shadow) == (6, 6)
    assert (tally.moved, tally.only_live, tally.only_shadow, tally.rejected) == (1, 1, 1, 1)


def test_keeps_a_few_examples_only() -> None:
    tally = Tally()

    for _ in range(20):
        tally.add(LIVE, SHADOW)

    assert len(tally.examples) == EXAMPLES
