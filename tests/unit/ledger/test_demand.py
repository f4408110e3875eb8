"""Which queued work counts for an arm, and how much of it there is."""

import itertools

from octarm.ledger.domain.demand import Queued, Work, demand_of, fits
from octarm.models.scaling import ArmDemand, GetDemand
from octarm.policies.context import ArmFacts, TaskFacts
from octarm.policies.eligibility import suits

NEEDS = [frozenset[str](), frozenset({"code"}), frozenset({"code", "gpu"})]


def test_what_counts_for_an_arm_is_what_the_scheduler_would_give_it() -> None:
    for needs, assigned, has, takes_any in itertools.product(
        NEEDS, [None, "writer", "other"], NEEDS, [True, False]
    ):
        task = TaskFacts("t", needs=needs, assigned_arm=assigned)
        arm = ArmFacts("writer", capabilities=has, takes_any=takes_any)
        asked = GetDemand(arm_id="writer", capabilities=sorted(has), takes_any=takes_any)

        assert fits(Queued(assigned, needs, 1), asked) == suits(task, arm), (task, arm)


def test_demand_is_what_is_queued_for_it_and_what_it_has() -> None:
    work = Work(
        queued=(
            Queued(None, frozenset({"code"}), 7),
            Queued("writer", frozenset(), 2),
            Queued("other", frozenset(), 100),
            Queued(None, frozenset({"paint"}), 50),
        ),
        running={"writer": 4, "other": 9},
        capped=True,
    )

    assert demand_of(GetDemand(arm_id="writer", capabilities=["code"]), work) == ArmDemand(
        arm_id="writer", runnable_slots=9, running_slots=4, capped=True
    )


def test_an_arm_without_work_has_none() -> None:
    found = demand_of(GetDemand(arm_id="writer"), Work((), {}))

    assert (found.runnable_slots, found.running_slots, found.capped) == (0, 0, False)
