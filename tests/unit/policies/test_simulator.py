"""The simulator: arrivals, virtual time, figures, scripts."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from octarm.policies.actions import Reject
from octarm.policies.builtin import BUILTIN
from octarm.policies.context import Context
from octarm.policies.language.evaluator import ScriptError
from octarm.policies.simulator.arrivals import arrivals, durations
from octarm.policies.simulator.deciders import BadPolicy, Decider, Script, decider
from octarm.policies.simulator.jobs import generated
from octarm.policies.simulator.load import Bursty, Duration, Load, Poisson, Trace
from octarm.policies.simulator.outcome import Outcome, to_json
from octarm.policies.simulator.report import tables
from octarm.policies.simulator.tally import percentile
from octarm.policies.simulator.world import simulated

ARMS = [{"id": "a", "slots": 2, "cost_per_task": 5, "cost_per_s": 1}]
STREAM = {
    "name": "s",
    "arrivals": {"process": "poisson", "rate_per_s": 1.0},
    "duration": {"kind": "constant", "mean_s": 1.0},
}


def a_load(*streams: dict[str, Any], **given: Any) -> Load:
    made = [{**STREAM, "name": f"s{n}", **stream} for n, stream in enumerate(streams or ({},))]
    return Load.model_validate({"duration_s": 50, "arms": ARMS, "tasks": made, **given})


def outcome_of(load: Load, policy: str | Decider = "priority", seed: int = 1) -> Outcome:
    chosen = BUILTIN[policy] if isinstance(policy, str) else policy
    return simulated(load, chosen, generated(load, seed), seed)


def at(*seconds: float) -> dict[str, Any]:
    return {"arrivals": {"process": "trace", "at_s": seconds}}


class Stub:
    """A policy of Python, for what no script should do."""

    name = "stub"

    def __init__(self, *answers: Sequence[object] | str) -> None:
        self._answers = iter(answers)
        self.seen: list[Context] = []

    def decide(self, context: Context) -> Sequence[object]:
        self.seen.append(context)
        answer = next(self._answers, [])
        if isinstance(answer, str):
            raise ScriptError(answer)
        return answer


def dispatch(task: str, arm: str = "a") -> dict[str, object]:
    return {"action": "dispatch", "task": task, "arm": arm}


class TestArrivals:
    def test_poisson_has_its_rate(self) -> None:
        found = list(arrivals(Poisson(process="poisson", rate_per_s=10), Random(1), 100.0))

        assert 900 < len(found) < 1_100
        assert found == sorted(found)

    def test_bursts_come_between_calm_times(self) -> None:
        process = Bursty(process="bursty", rate_per_s=0, burst_rate_per_s=50, burst_s=2, calm_s=20)
        found = list(arrivals(process, Random(3), 500.0))

        assert found == sorted(found)
        gaps = [later - sooner for sooner, later in pairwise(found)]
        assert max(gaps) > 5
        assert percentile(sorted(gaps), 50) < 0.1
        calm = process.model_copy(update={"process": "poisson", "rate_per_s": 5.0})
        assert len(list(arrivals(calm, Random(3), 500.0))) > len(found)

    def test_a_trace_is_taken_as_it_is_within_the_time(self) -> None:
        process = Trace(process="trace", at_s=(5.0, 1.0, 99.0, -1.0))

        assert list(arrivals(process, Random(1), 50.0)) == [1.0, 5.0]

    @pytest.mark.parametrize("kind", ["constant", "exponential", "lognormal", "uniform"])
    def test_durations_have_their_mean(self, kind: str) -> None:
        draw = durations(Duration.model_validate({"kind": kind, "mean_s": 3}), Random(1))

        mean = sum(draw() for _ in range(20_000)) / 20_000

        assert math.isclose(mean, 3.0, rel_tol=0.05)


class TestWorld:
    def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(self) -> None:
        load = a_load({"sessions": 3, "failure_rate": 0.2, "deadline_s": 9}, {"tier": "batch"})

        first, second = (to_json([outcome_of(load, "affinity")]) for _ in range(2))

        assert first == second
        assert to_json([outcome_of(load, "affinity", seed=2)]) != first

    def test_what_arrives_is_the_same_under_every_policy(self) -> None:
        load = a_load({"sessions": 3}, {"tier": "batch", "tenant": "b"})

        counts = {outcome_of(load, name).total.arrived for name in BUILTIN}

        assert len(counts) == 1

    def test_waits_cost_and_use_add_up(self) -> None:
        outcome = outcome_of(a_load(at(0, 0, 0), duration_s=10))

        assert outcome.total.wait_max_s == 1.0
        assert outcome.total.completed == outcome.placed == 3
        assert outcome.cost == 3 * (5 + 1)
        assert outcome.by_arm == {"a": 3.0}
        assert outcome.makespan_s == 2.0
        assert outcome.fairness == 1.0

    def test_failed_attempts_are_tried_again_and_then_fail(self) -> None:
        retries = {"max_attempts": 2, "backoff_s": 3}
        outcome = outcome_of(a_load({**at(0), "failure_rate": 1.0}, retries=retries))

        assert (outcome.placed, outcome.retried, outcome.total.failed) == (2, 1, 1)
        assert outcome.makespan_s == 5.0

    def test_failures_depend_on_the_arm_too(self) -> None:
        arms = [{**ARMS[0], "failure_rate": 0.5, "count": 2}]
        outcome = outcome_of(
            a_load({"arrivals": {"process": "poisson", "rate_per_s": 5}}, arms=arms)
        )

        assert outcome.retried > 50
        assert sorted(outcome.by_arm) == ["a-1", "a-2"]

    def test_deadlines_are_kept_missed_or_passed_while_waiting(self) -> None:
        arms = [{"id": "a", "slots": 1}]
        outcome = outcome_of(a_load({**at(0, 0, 0), "deadline_s": 1.5}, arms=arms))

        assert (outcome.total.completed, outcome.total.overdue) == (2, 1)
        assert outcome.total.deadline_hit_rate == 0.333333

    def test_a_full_queue_refuses_or_drops(self) -> None:
        streams = ({**at(0, 0.1, 0.2), "tier": "batch"}, at(0.3))
        small = {"capacity": 1, "full": "drop_lru"}
        outcome = outcome_of(a_load(*streams, arms=[{"id": "a", "slots": 1}], queue=small))

        assert (outcome.by_tier["batch"].rejected, outcome.by_tier["interactive"].rejected) == (
            2,
            0,
        )
        refusing = outcome_of(
            a_load(*streams, arms=[{"id": "a", "slots": 1}], queue={"capacity": 1})
        )
        assert refusing.total.rejected == 2

    @pytest.mark.parametrize("full", ["reject", "drop_lru", "shed_batch"])
    def test_what_was_accepted_is_dropped_by_no_full_queue_unless_it_is_batch(
        self, full: str
    ) -> None:
        streams = ({**at(0), "failure_rate": 1.0}, at(0.5, 0.6, 0.7))
        outcome = outcome_of(
            a_load(
                *streams,
                arms=[{"id": "a", "slots": 1}],
                queue={"capacity": 1, "full": full},
                retries={"max_attempts": 2, "backoff_s": 0.1},
            )
        )

        # Fresh tasks are refused by `reject` alone; the retry waits beyond the capacity.
        assert (outcome.total.failed, outcome.retried) == (1, 1)
        assert outcome.total.rejected == (2 if full == "reject" else 0)

    @pytest.mark.parametrize(("full", "left"), [("drop_lru", "late"), ("shed_batch", "early")])
    def test_batch_work_gives_way_as_the_full_policy_says(self, full: str, left: str) -> None:
        streams = (
            {**at(0), "tenant": "first"},
            {**at(0.1), "tier": "batch", "tenant": "early"},
            {**at(0.2), "tier": "batch", "tenant": "late"},
        )
        outcome = outcome_of(
            a_load(
                *streams,
                arms=[{"id": "a", "slots": 1}],
                queue={"capacity": 1, "full": full},
            )
        )

        assert outcome.by_tenant[left].completed == 1
        assert outcome.total.rejected == 1

    def test_work_waits_while_arms_are_offline(self) -> None:
        arms = [{"id": "a", "slots": 1, "offline_s": [[0, 30]]}]
        outcome = outcome_of(a_load(at(5), arms=arms))

        assert outcome.total.wait_max_s == 25.0

    def test_what_no_arm_takes_is_left_and_counts_as_starved(self) -> None:
        streams = ({**at(0), "needs": ["draw"], "deadline_s": 9_000}, at(0, 900))
        outcome = outcome_of(a_load(*streams, duration_s=1_000, starved_after_s=600))

        assert (outcome.left, outcome.total.starved) == (1, 1)

    def test_changes_within_a_step_share_a_cycle(self) -> None:
        many = a_load(
            {"arrivals": {"process": "poisson", "rate_per_s": 50}},
            duration_s=10,
            arms=[{"id": "a"}],
        )

        assert outcome_of(many.model_copy(update={"cycle_ms": 1_000.0})).cycles < 100
        assert outcome_of(many).cycles > 200

    def test_fairness_is_measured_while_tenants_compete(self) -> None:
        flood = {**at(*([0.0] * 400)), "tenant": "flood"}
        other = {**at(*([0.0] * 50)), "tenant": "other"}
        load = a_load(flood, other, duration_s=100)

        unfair, fair = (outcome_of(load, name).fairness for name in ("fifo", "fair_share"))

        assert unfair < 0.7
        assert fair > 0.95

    def test_quotas_limits_and_providers_hold_in_it(self) -> None:
        load = a_load(
            {**at(*([0.0] * 40)), "tenant": "t", "tokens": 10, "labels": {"c": "x"}},
            arms=[{"id": "a", "slots": 40, "labels": {"provider": "p"}}],
            tenants=[{"name": "t", "running": 3}],
            providers=[{"key": "p//", "requests_per_minute": 6_000, "tokens_per_minute": 6_000}],
            limits=[{"name": "l", "key": "task.labels.c", "rate_per_s": 2, "burst": 1}],
        )

        outcome = outcome_of(load)

        assert outcome.total.completed == 40
        assert outcome.makespan_s == pytest.approx(20.5, abs=0.1)


class TestScripts:
    def test_a_script_is_asked_checked_and_obeyed(self) -> None:
        stub = Stub([dispatch("s0-0000001"), dispatch("nobody")], [Reject("s0-0000002", "no")])
        outcome = outcome_of(a_load(at(0, 0), duration_s=5), stub)

        assert (outcome.total.completed, outcome.total.rejected) == (1, 1)
        assert outcome.dropped_actions == {"unknown_task": 1}
        assert [it.id for it in stub.seen[0].queue] == ["s0-0000001", "s0-0000002"]
        assert "1 actions dropped: unknown_task" in tables([outcome])

    def test_a_script_is_asked_again_when_it_says_so(self) -> None:
        wait = {"action": "wait", "retry_after_ms": 4_000}
        outcome = outcome_of(a_load(at(0), duration_s=9), Stub([wait], [dispatch("s0-0000001")]))

        assert outcome.total.wait_max_s == 4.0

    def test_where_a_script_fails_the_platform_decides(self) -> None:
        outcome = outcome_of(a_load(at(0), duration_s=9), Stub("error: it broke"))

        assert (outcome.total.completed, outcome.script_errors) == (1, 1)
        assert "1 calls failed, the first with: error: it broke" in tables([outcome])

    def test_where_nothing_in_an_answer_makes_sense_the_platform_decides(self) -> None:
        outcome = outcome_of(a_load(at(0), duration_s=9), Stub([dispatch("nobody")]))

        assert (outcome.total.completed, outcome.script_errors) == (1, 1)

    def test_a_script_that_places_nothing_leaves_everything(self) -> None:
        assert outcome_of(a_load(at(0, 1), duration_s=9), Stub()).left == 2

    def test_a_script_that_places_one_at_a_time_is_not_asked_for_ever(self) -> None:
        answers = [[dispatch(f"s0-{number:07}")] for number in range(1, 71)]
        load = a_load(at(*([0.0] * 70)), arms=[{"id": "a", "slots": 100}], duration_s=9)

        assert outcome_of(load, Stub(*answers)).by_arm == {"a": 70.0}

    def test_the_queue_is_gone_through_window_by_window(self) -> None:
        source = "def schedule(ctx):\n    return platform_schedule(ctx)"
        script = Script("it", source)
        load = a_load(at(*([0.0] * 300)), arms=[{"id": "a", "slots": 300}])

        assert outcome_of(load, script).total.wait_max_s == 0.0


class TestPolicies:
    def test_files_and_names_give_policies(self, tmp_path: Path) -> None:
        star, rules = tmp_path / "mine.star", tmp_path / "rules.yaml"
        star.write_text("def schedule(ctx):\n    return []")
        rules.write_text("rules:\n  - name: all\n    action: dispatch\n")

        assert decider("fifo") is BUILTIN["fifo"]
        assert decider(str(star)).name.startswith("mine@")
        assert decider(str(rules)).name.startswith("rules@")

    def test_what_is_no_policy_is_refused_with_a_reason(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken.star"
        broken.write_text("def other(ctx):\n    return []")

        with pytest.raises(BadPolicy, match="built in are affinity"):
            decider("nothing")
        with pytest.raises(BadPolicy, match="schedule"):
            decider(str(broken))
        with pytest.raises(BadPolicy, match="absent"):
            decider(str(tmp_path / "absent.yaml"))
