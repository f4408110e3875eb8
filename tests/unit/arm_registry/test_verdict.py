"""How well an arm is."""

from dataclasses import replace
from typing import Any

import pytest

from octarm.arm_registry.domain.verdict import Instance, Norm, Verdict, settled, verdict
from tests.support.arms import a_beat

USUAL = Norm(value_ms=100.0, samples=50)


def judge(*instances: Instance, now: float = 0.0, drain: bool = False) -> Verdict:
    return verdict(instances, now=now, drain_requested=drain, norm=USUAL)


def heard(instance_id: str = "i-1", *, at: float = 0.0, **fields: Any) -> Instance:
    return Instance(a_beat(instance_id=instance_id, **fields), at)


class TestVerdict:
    @pytest.mark.parametrize(
        ("now", "status"),
        [
            (0.0, "online"),
            (9.9, "online"),
            (10.0, "degraded"),
            (14.9, "degraded"),
            (15.0, "offline"),
            (1e9, "offline"),
            (-100.0, "online"),
        ],
    )
    def test_counts_the_beats_that_did_not_come(self, now: float, status: str) -> None:
        assert judge(heard(), now=now).status == status

    def test_counts_by_the_interval_that_the_beat_names(self) -> None:
        assert judge(heard(interval_s=60), now=100).status == "online"
        assert judge(heard(interval_s=0.1), now=0.31).status == "offline"

    def test_an_arm_without_instances_is_offline(self) -> None:
        assert judge() == Verdict("offline", "no instance has beaten for 3 intervals")

    @pytest.mark.parametrize(("rate", "status"), [(0.049, "online"), (0.05, "degraded")])
    def test_an_arm_that_fails_often_is_degraded(self, rate: float, status: str) -> None:
        assert judge(heard(error_rate=rate)).status == status

    @pytest.mark.parametrize(("latency_ms", "status"), [(299, "online"), (300, "degraded")])
    def test_an_arm_three_times_slower_than_usual_is_degraded(
        self, latency_ms: float, status: str
    ) -> None:
        assert judge(heard(avg_latency_ms=latency_ms)).status == status

    def test_one_well_instance_is_enough(self) -> None:
        assert judge(heard("i-1", error_rate=1), heard("i-2")) == Verdict("online")

    def test_says_what_ails_the_first_instance(self) -> None:
        found = judge(heard("i-2", error_rate=0.5), heard("i-1", error_rate=0.25))

        assert found == Verdict("degraded", "i-1 fails 25%")

    def test_drains_on_request_as_long_as_an_instance_lives(self) -> None:
        assert judge(heard(), drain=True) == Verdict("draining", "asked to drain")
        assert judge(heard(), now=15, drain=True).status == "offline"

    def test_drains_when_every_instance_does(self) -> None:
        draining = heard("i-1", draining=True)

        assert judge(draining).status == "draining"
        assert judge(draining, heard("i-2")).status == "online"
        assert judge(draining, heard("i-2", error_rate=1)).status == "degraded"


class TestNorm:
    def test_is_the_mean_at_first(self) -> None:
        norm = Norm()
        for latency_ms in (100, 200, 300):
            norm = norm.learn(latency_ms)

        assert norm.value_ms == pytest.approx(200)

    def test_learns_nothing_from_an_instance_that_has_measured_nothing(self) -> None:
        assert USUAL.learn(0) == USUAL

    def test_knows_nothing_slow_before_it_has_learned(self) -> None:
        assert not Norm(value_ms=1, samples=9).is_slow(10_000)

    def test_knows_nothing_slow_below_a_tenth_of_a_second(self) -> None:
        assert not replace(USUAL, value_ms=1).is_slow(99)

    def test_takes_minutes_to_get_used_to_a_slow_spell(self) -> None:
        norm, beats = USUAL, 0
        while norm.is_slow(1000):
            norm, beats = norm.learn(1000), beats + 1

        assert 40 < beats < 120


class TestSettled:
    ONLINE, DEGRADED, OFFLINE = Verdict("online"), Verdict("degraded", "x"), Verdict("offline", "y")

    def test_follows_the_finding_when_nothing_holds_it(self) -> None:
        assert settled(self.ONLINE, self.OFFLINE, held=False) == self.OFFLINE

    def test_lowers_nothing_while_held(self) -> None:
        assert settled(self.ONLINE, self.DEGRADED, held=True) == self.ONLINE
        assert settled(self.DEGRADED, self.OFFLINE, held=True) == self.DEGRADED

    def test_raises_at_once_even_while_held(self) -> None:
        assert settled(self.OFFLINE, self.ONLINE, held=True) == self.ONLINE
