"""Each policy of `libraries/policies`: what it says it does, and a small simulation."""

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from octarm.policies.actions import Checked, Dispatch, Reject, Wait, check
from octarm.policies.builtin import BUILTIN
from octarm.policies.context import ArmFacts, Config, Context, TaskFacts, TenantFacts, TenantLimits
from octarm.policies.language.evaluator import Evaluator
from octarm.policies.simulator import load as loads
from octarm.policies.simulator.deciders import Script, decider
from octarm.policies.simulator.jobs import generated
from octarm.policies.simulator.load import Load
from octarm.policies.simulator.outcome import Outcome
from octarm.policies.simulator.world import simulated

FOLDER: Final = Path(__file__).parents[3] / "libraries" / "policies"
NAMES: Final = sorted(path.stem for path in FOLDER.glob("*.star"))
NOW_MS: Final = 1_000_000


def script(name: str) -> Script:
    found = decider(str(FOLDER / f"{name}.star"))
    assert isinstance(found, Script)
    return found


def a_task(task_id: str, **given: Any) -> TaskFacts:
    return TaskFacts(id=task_id, **{"queued_at": NOW_MS, "est_ms": 1_000, **given})


def an_arm(arm_id: str, **given: Any) -> ArmFacts:
    return ArmFacts(id=arm_id, **{"slots": 4, "free": 4, **given})


def decided(name: str, tasks: list[TaskFacts], arms: list[ArmFacts], **given: Any) -> Checked:
    config = Config(ageing_ms=60_000)
    context = Context(
        now_ms=NOW_MS,
        queue=tuple(tasks),
        arms=tuple(sorted(arms, key=lambda arm: arm.id)),
        config=config,
        **given,
    )
    return check(script(name).decide(context), context)


def placed(name: str, tasks: list[TaskFacts], arms: list[ArmFacts], **given: Any) -> dict[str, str]:
    checked = decided(name, tasks, arms, **given)
    assert checked.dropped == ()
    return {it.task: it.arm for it in checked.kept if isinstance(it, Dispatch)}


def outcome_of(policy: str, load: Load, seed: int = 1) -> Outcome:
    found = BUILTIN[policy] if policy in BUILTIN else script(policy)
    outcome = simulated(load, found, generated(load, seed), seed)
    assert (outcome.script_errors, outcome.dropped_actions) == (0, {})
    return outcome


@pytest.fixture(scope="module")
def costs() -> Load:
    return loads.read(FOLDER / "loads" / "mixed_costs.toml")


def test_there_is_an_example_of_each_kind() -> None:
    assert NAMES == [
        "affinity",
        "cascade",
        "cost_optimiser",
        "deadline_first",
        "deterministic_first",
        "eu_only",
        "latency_optimiser",
        "simple_priority",
        "tenant_fairness",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_what_it_does_and_calls_nothing_wrongly(name: str) -> None:
    source = (FOLDER / f"{name}.star").read_text()

    assert source.startswith("# ")
    assert "\n# 1. " in source
    assert [it for it in Evaluator().findings(source) if it.certain] == []


@pytest.mark.parametrize("name", NAMES)
def test_an_example_finishes_a_small_load(name: str, costs: Load) -> None:
    outcome = outcome_of(name, costs.model_copy(update={"duration_s": 60.0}))

    assert outcome.left == 0
    assert outcome.total.completed == outcome.total.arrived > 50


@pytest.mark.parametrize("name", NAMES)
def test_an_example_lets_a_tenant_over_its_quota_wait(name: str) -> None:
    tenants = {"t": TenantFacts("t", running=1, limits=TenantLimits(running=1))}
    task = a_task("x", tenant="t")

    assert placed(name, [task], [an_arm("a")], tenants=tenants) == {}


def test_simple_priority_takes_the_urgent_first() -> None:
    tasks = [a_task("low", priority=9), a_task("high", priority=1), a_task("b", tier="batch")]

    assert placed("simple_priority", tasks, [an_arm("a", free=2)]) == {"high": "a", "low": "a"}


def test_deterministic_work_goes_only_where_it_is_repeatable() -> None:
    sure, free = an_arm("sure", labels={"deterministic": "true"}, free=1), an_arm("z", free=1)
    tasks = [a_task("t-1"), a_task("t-2", labels={"deterministic": "true"}), a_task("t-3")]

    assert placed("deterministic_first", tasks, [sure, free]) == {"t-2": "sure", "t-1": "z"}
    assert placed("deterministic_first", tasks[:1], [sure]) == {"t-1": "sure"}
    (waits,) = decided("deterministic_first", tasks[1:2], [free]).kept
    assert waits == Wait("waits for a deterministic arm", task="t-2")


class TestCostOptimiser:
    cheap = an_arm("cheap", cost_tier=1, labels={"speed": "0.5"})
    dear = an_arm("dear", cost_tier=4)
    full = an_arm("cheap", cost_tier=1, free=0)

    def test_it_takes_the_cheapest_that_is_in_time(self) -> None:
        soon = a_task("soon", deadline_ms=NOW_MS + 5_000)
        later = a_task("later", deadline_ms=NOW_MS + 60_000)
        none = a_task("none")

        assert placed("cost_optimiser", [soon, later, none], [self.cheap, self.dear]) == {
            "soon": "dear",
            "later": "cheap",
            "none": "cheap",
        }

    def test_it_waits_for_a_cheap_arm_while_there_is_time(self) -> None:
        later = a_task("later", deadline_ms=NOW_MS + 60_000)
        old = a_task("old", queued_at=NOW_MS - 130_000)

        checked = decided("cost_optimiser", [later, a_task("new"), old], [self.full, self.dear])

        assert [it.task for it in checked.kept if isinstance(it, Dispatch)] == ["old"]
        assert checked.kept[-1] == Wait("cheap arms are full and there is time", 2_000)

    def test_what_is_late_anyway_goes_where_it_is_done_first(self) -> None:
        late = a_task("late", deadline_ms=NOW_MS + 100)
        quick = msgspec.structs.replace(self.dear, avg_latency_ms=10.0)
        slow = msgspec.structs.replace(self.cheap, avg_latency_ms=9_000.0)

        assert placed("cost_optimiser", [late], [slow, quick]) == {"late": "dear"}

    @pytest.mark.parametrize("seed", [1, 2])
    def test_it_halves_the_cost_at_the_same_deadline_hit_rate(self, costs: Load, seed: int) -> None:
        priority = outcome_of("priority", costs, seed)
        optimised = outcome_of("cost_optimiser", costs, seed)

        assert optimised.cost <= priority.cost / 2
        assert optimised.total.deadline_hit_rate == priority.total.deadline_hit_rate
        assert optimised.total.completed == priority.total.completed


def test_latency_goes_to_the_fast_and_batch_leaves_a_slot() -> None:
    quick, slow = (
        an_arm("quick", avg_latency_ms=1_000, free=2),
        an_arm("slow", avg_latency_ms=9_000),
    )
    tasks = [a_task("i"), *(a_task(f"b-{n}", tier="batch") for n in range(5))]

    assert placed("latency_optimiser", tasks, [quick, slow]) == {
        "i": "quick",
        "b-0": "slow",
        "b-1": "slow",
        "b-2": "slow",
    }


def test_deadlines_go_first_and_the_late_last() -> None:
    tasks = [
        a_task("late", deadline_ms=NOW_MS + 500),
        a_task("none"),
        a_task("near", deadline_ms=NOW_MS + 5_000),
    ]

    assert list(placed("deadline_first", tasks, [an_arm("a", free=2)])) == ["near", "none"]
    assert list(placed("deadline_first", tasks, [an_arm("a")])) == ["near", "none", "late"]


def test_bound_data_stays_in_its_region() -> None:
    eu, other = an_arm("eu", labels={"region": "eu"}, free=1), an_arm("us", free=1)
    bound = [a_task(f"eu-{n}", labels={"data_region": "eu"}) for n in range(2)]
    free = a_task("any")

    assert placed("eu_only", [*bound, free], [eu, other]) == {"eu-0": "eu", "any": "us"}
    assert placed("eu_only", [free], [eu]) == {"any": "eu"}
    (refused,) = decided("eu_only", bound[:1], [other]).kept
    assert refused == Reject("eu-0", "no arm is in the region eu")


def test_tenants_take_turns_by_weight() -> None:
    tasks = [a_task(f"{name}-{n}", tenant=name) for name in "ab" for n in range(6)]
    tenants = {"a": TenantFacts("a", weight=1.0), "b": TenantFacts("b", weight=2.0)}

    found = placed("tenant_fairness", tasks, [an_arm("x", slots=6, free=6)], tenants=tenants)

    assert sorted(task[0] for task in found) == ["a", "a", "b", "b", "b", "b"]


def test_a_cascade_climbs_with_every_attempt_and_does_not_fall_back() -> None:
    arms = [an_arm(f"tier-{tier}", cost_tier=tier) for tier in (1, 3, 5)]
    tasks = [a_task(f"t-{attempt}", attempt=attempt) for attempt in (1, 2, 3, 4)]

    assert placed("cascade", tasks, arms) == {
        "t-1": "tier-1",
        "t-2": "tier-3",
        "t-3": "tier-5",
        "t-4": "tier-5",
    }


def test_a_cascade_waits_a_while_for_its_tier() -> None:
    arms = [an_arm("low", cost_tier=1, free=0), an_arm("high", cost_tier=3)]
    tasks = [a_task("new"), a_task("old", queued_at=NOW_MS - 40_000)]

    checked = decided("cascade", tasks, arms)

    assert [it.task for it in checked.kept if isinstance(it, Dispatch)] == ["old"]
    assert checked.kept[-1] == Wait("the tier of this attempt is full", 5_000)


def test_a_session_stays_on_its_arm() -> None:
    arms = [an_arm(f"a-{n}", slots=9, free=9) for n in range(4)]
    tasks = [a_task(f"t-{n}", session="s") for n in range(5)]

    assert len(set(placed("affinity", tasks, arms).values())) == 1
    assert placed("affinity", [a_task("free")], arms) == {"free": "a-0"}
