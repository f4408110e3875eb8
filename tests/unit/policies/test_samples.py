from octarm.policies.actions import check
from octarm.policies.context import WINDOW
from octarm.policies.samples import samples


def test_fill_a_window_and_leave_one_empty() -> None:
    sizes = {name: (len(it.queue), len(it.arms)) for name, it in samples().items()}

    assert sizes["empty"] == (0, 0)
    assert sizes["full window"] == (WINDOW, 200)


def test_have_every_kind_of_value() -> None:
    context = samples()["full window"]

    assert {arm.status for arm in context.arms} == {"online", "degraded", "draining", "offline"}
    assert {task.tier for task in context.queue} == {"interactive", "batch"}
    for field in ("deadline_ms", "session", "needs", "labels", "assigned_arm", "est_cost"):
        values = {bool(getattr(task, field)) for task in context.queue}
        assert values == {True, False}, field
    for field in ("slots", "instances", "labels", "takes_any", "free"):
        assert {bool(getattr(arm, field)) for arm in context.arms} == {True, False}, field
    assert check([], context).kept == ()
