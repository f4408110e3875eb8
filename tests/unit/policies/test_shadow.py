from octarm.policies.actions import Action, Checked, Dispatch, Reject, Wait
from octarm.policies.shadow import RECENT, Difference, Tally, compare


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


def test_says_why_the_shadow_would_have_done_it_and_when() -> None:
    shadow = checked(Dispatch("t1", "b", "cheaper"), Wait("too dear", task="t2"))

    found = compare(checked(Dispatch("t1", "a"), Dispatch("t2", "a")), shadow, at_s=7.0)

    assert found == [
        Difference("t1", "a", "b", "cheaper", 7.0),
        Difference("t2", "a", "(waits)", "too dear", 7.0),
    ]


def test_counts_cycles_and_what_differs() -> None:
    tally = Tally()

    tally.add(LIVE, SHADOW)
    tally.add(LIVE, LIVE)
    tally.add_failure("timeout")

    assert (tally.cycles, tally.cycles_equal, dict(tally.failures)) == (3, 1, {"timeout": 1})
    assert (tally.placed_live, tally.placed_shadow) == (6, 6)
    assert (tally.moved, tally.only_live, tally.only_shadow, tally.rejected) == (1, 1, 1, 1)


def test_keeps_the_newest_differences_only() -> None:
    tally = Tally()

    for cycle in range(20):
        tally.add(LIVE, SHADOW, at_s=float(cycle))

    assert len(tally.recent) == RECENT
    assert (tally.recent[0].at_s, tally.recent[-1].at_s) == (7.0, 19.0)
