"""What the directory should say of the arms."""

from datetime import timedelta
from random import Random
from typing import Any
from unittest.mock import patch

from octarm.arm_registry.domain import fleet as fleet_module
from octarm.arm_registry.domain.fleet import MAX_INSTANCES, Change, Fleet, Stored
from octarm.arm_registry.domain.verdict import NORM_SAMPLES
from octarm.common.testing.fakes import NOON
from tests.support.arms import a_beat, a_record, an_instance


def a_fleet(**record: Any) -> Fleet:
    fleet = Fleet()
    fleet.know(Stored(a_record(**record), 1), now=0)
    return fleet


def online() -> dict[str, Any]:
    return {"status": "online", "reason": "", "instances": [an_instance()]}


def judged(fleet: Fleet, now: float) -> list[Change]:
    return list(fleet.changes(fleet, now=now, wall=NOON + timedelta(seconds=now)))


def heard(fleet: Fleet, now: float, **fields: Any) -> str:
    return fleet.hear(a_beat(**fields), now=now, wall=NOON + timedelta(seconds=now))


def write(fleet: Fleet, now: float) -> Change:
    (change,) = judged(fleet, now)
    fleet.wrote(Stored(change.record, change.stored.revision + 1), now=now)
    return change


def storm(seed: int) -> list[tuple[float, str, int, int]]:
    """Let beats come and stay away by chance; gives what was written, and when."""
    chance, fleet = Random(seed), a_fleet()
    written: list[tuple[float, str, int, int]] = []
    now, beating = 0.0, ["i-1", "i-2"]
    for _ in range(600):
        now += chance.choice((0.1, 0.5, 2.0))
        if chance.random() < 0.05:
            beating = chance.choice(([], ["i-1"], ["i-2"], ["i-1", "i-2"]))
        for name in beating if chance.random() < 0.4 else ():
            errors, draining = chance.choice((0.0, 0.0, 1.0)), chance.random() < 0.1
            said = {"running": chance.randrange(2), "error_rate": errors, "draining": draining}
            heard(fleet, now, instance_id=name, **said)
        if chance.random() < 0.01:
            fleet.deaf(now=now)
        for change in judged(fleet, now):
            fleet.wrote(Stored(change.record, change.stored.revision + 1), now=now)
            instances = change.record.instances
            running = sum(one.running for one in instances)
            written.append((now, change.record.status, len(instances), running))
    return written


class TestFleet:
    def test_an_arm_comes_online_with_its_first_beat(self) -> None:
        fleet = a_fleet()

        assert heard(fleet, 1) == "news"
        change = write(fleet, 1)

        assert change.flipped
        assert (change.record.status, change.record.reason) == ("online", "")
        assert change.record.changed_at == NOON + timedelta(seconds=1)
        assert [one.instance_id for one in change.record.instances] == ["i-1"]
        assert judged(fleet, 1) == []

    def test_an_arm_that_nobody_knows_is_not_watched(self) -> None:
        fleet = a_fleet()

        assert heard(fleet, 1, arm_id="stranger") == "unknown"
        assert list(fleet.changes(["stranger"], now=1, wall=NOON)) == []

    def test_does_not_write_each_beat(self) -> None:
        fleet = a_fleet()
        heard(fleet, 0)
        write(fleet, 0)

        for now in (1, 2, 3, 4):
            assert heard(fleet, now, running=now) == "usual"
            assert judged(fleet, now) == []

    def test_writes_other_figures_every_five_seconds_and_the_rest_every_thirty(self) -> None:
        fleet = a_fleet()
        heard(fleet, 0)
        write(fleet, 0)

        heard(fleet, 5, running=2)
        figures = write(fleet, 5)
        for now in (10, 15, 20, 25, 30, 34):
            heard(fleet, now, running=2)
            assert judged(fleet, now) == []
        heard(fleet, 35, running=2)
        seen = write(fleet, 35)

        assert not figures.flipped
        assert figures.record.instances[0].running == 2
        assert seen.record.instances[0].seen_at == NOON + timedelta(seconds=35)
        assert seen.record.changed_at == NOON

    def test_passes_over_only_what_it_would_leave_as_it_is(self) -> None:
        passing_over = [storm(seed) for seed in range(20)]
        with patch.object(fleet_module, "_judge_at", lambda *_: 0.0):
            looking_always = [storm(seed) for seed in range(20)]

        assert passing_over == looking_always
        assert sum(map(len, passing_over)) > 1_000

    def test_writes_at_once_when_an_instance_comes_goes_or_drains(self) -> None:
        fleet = a_fleet()
        heard(fleet, 0)
        write(fleet, 0)

        heard(fleet, 1, instance_id="i-2", interval_s=1)
        came = write(fleet, 1)
        assert heard(fleet, 2, instance_id="i-2", interval_s=1, draining=True) == "news"
        drains = write(fleet, 2)
        gone = write(fleet, 5)

        assert [one.instance_id for one in came.record.instances] == ["i-1", "i-2"]
        assert drains.record.instances[1].status == "draining"
        assert [one.instance_id for one in gone.record.instances] == ["i-1"]
        assert not came.flipped
        assert not gone.flipped

    def test_an_arm_falls_silent_step_by_step_and_comes_back_at_once(self) -> None:
        fleet = a_fleet()
        heard(fleet, 0)
        write(fleet, 0)

        statuses = [write(fleet, now).record.status for now in (10, 15)]
        heard(fleet, 100)

        assert statuses == ["degraded", "offline"]
        assert write(fleet, 100).record.status == "online"

    def test_silence_proves_nothing_for_three_intervals_after_a_start(self) -> None:
        fleet = a_fleet(**online())

        assert judged(fleet, 14.9) == []
        assert write(fleet, 15).record.status == "offline"

    def test_a_known_instance_is_awaited_by_its_own_interval(self) -> None:
        fleet = a_fleet(**(online() | {"instances": [an_instance(interval_s=60)]}))

        assert judged(fleet, 179) == []
        assert write(fleet, 180).record.status == "offline"

    def test_one_ill_instance_lowers_nothing_while_others_are_awaited(self) -> None:
        instances = [an_instance("i-1"), an_instance("i-2")]
        fleet = a_fleet(**(online() | {"instances": instances}))

        heard(fleet, 1, error_rate=1.0)
        awaited = judged(fleet, 1)
        heard(fleet, 14, error_rate=1.0)

        assert awaited == []
        assert write(fleet, 15).record.status == "degraded"

    def test_what_could_not_be_heard_is_not_held_against_an_arm(self) -> None:
        fleet = a_fleet()
        heard(fleet, 0)
        write(fleet, 0)

        fleet.deaf(now=60)

        assert judged(fleet, 74) == []
        assert write(fleet, 75).record.status == "offline"

    def test_an_arm_slower_than_its_norm_is_degraded(self) -> None:
        fleet = a_fleet()
        for now in range(NORM_SAMPLES):
            heard(fleet, now, avg_latency_ms=100)
        write(fleet, 10)

        heard(fleet, 11, avg_latency_ms=400)

        change = write(fleet, 11)
        assert change.record.status == "degraded"
        assert change.record.reason.startswith("i-1 takes 400 ms, usual 10")

    def test_has_room_for_so_many_instances(self) -> None:
        fleet = a_fleet()
        for number in range(MAX_INSTANCES):
            heard(fleet, 0, instance_id=f"i-{number}")

        assert heard(fleet, 0, instance_id="one-more") == "unknown"
        assert heard(fleet, 0, instance_id="i-7") == "news"

    def test_forgets_what_the_directory_no_longer_has(self) -> None:
        fleet = a_fleet()
        fleet.know(Stored(a_record("reader"), 2), now=0)

        fleet.adopt({"reader": Stored(a_record("reader"), 2)}, now=0)
        fleet.forget("nobody")

        assert list(fleet) == ["reader"]
        assert "writer" not in fleet

    def test_takes_only_a_newer_word_of_the_directory(self) -> None:
        fleet = a_fleet()

        fleet.know(Stored(a_record(reason="newer"), 5), now=0)
        fleet.know(Stored(a_record(reason="older"), 4), now=0)

        assert fleet.stored("writer").record.reason == "newer"

    def test_a_write_for_an_arm_since_forgotten_changes_nothing(self) -> None:
        fleet = a_fleet()
        fleet.forget("writer")

        fleet.wrote(Stored(a_record(), 2), now=0)

        assert list(fleet) == []
