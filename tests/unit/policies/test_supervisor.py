import pytest

from octarm.common.testing.fakes import FakeClock
from octarm.policies.supervisor import PLATFORM, Supervisor, Switched


def fail(supervisor: Supervisor, version: str, times: int, clock: FakeClock) -> list[str]:
    found = [supervisor.failed(version, "error", now=clock.monotonic()) for _ in range(times)]
    return [it.now for it in found if it]


def test_begins_with_the_platforms_own_policy_and_never_trips_it() -> None:
    supervisor, clock = Supervisor(), FakeClock()

    assert supervisor.active == PLATFORM
    assert fail(supervisor, PLATFORM, 10, clock) == []
    assert supervisor.failures[PLATFORM, "error"] == 10


def test_three_failures_within_a_minute_bring_back_the_last_good_version() -> None:
    supervisor, clock = Supervisor(), FakeClock()
    supervisor.deploy("v1")
    supervisor.decided("v1")
    supervisor.deploy("v2")

    assert fail(supervisor, "v2", 2, clock) == []
    switched = supervisor.failed("v2", "timeout", now=clock.monotonic())

    assert switched == Switched("v2", "v1", "3 failures within 60 s, the last: timeout")
    assert supervisor.active == "v1"
    assert supervisor.failures == {("v2", "error"): 2, ("v2", "timeout"): 1}


def test_failures_that_are_far_apart_trip_nothing() -> None:
    supervisor, clock = Supervisor(), FakeClock()
    supervisor.deploy("v1")

    for _ in range(10):
        assert fail(supervisor, "v1", 1, clock) == []
        clock.advance(31.0)

    assert supervisor.active == "v1"


def test_without_a_good_version_the_platforms_own_policy_decides() -> None:
    supervisor, clock = Supervisor(), FakeClock()
    supervisor.deploy("never-decided")
    supervisor.deploy("v2")

    assert fail(supervisor, "v2", 3, clock) == [PLATFORM]


def test_a_version_that_was_tripped_is_not_gone_back_to() -> None:
    supervisor, clock = Supervisor(), FakeClock()
    for version in ("v1", "v2"):
        supervisor.deploy(version)
        supervisor.decided(version)
    assert fail(supervisor, "v2", 3, clock) == ["v1"]
    supervisor.deploy("v3")

    assert fail(supervisor, "v3", 3, clock) == ["v1"]
    assert fail(supervisor, "v1", 3, clock) == [PLATFORM]


def test_a_version_that_is_deployed_again_gets_a_new_chance() -> None:
    supervisor, clock = Supervisor(), FakeClock()
    supervisor.deploy("v1")
    fail(supervisor, "v1", 3, clock)

    supervisor.deploy("v1")

    assert fail(supervisor, "v1", 2, clock) == []
    assert supervisor.active == "v1"


def test_late_failures_of_a_version_that_has_gone_trip_nothing() -> None:
    supervisor, clock = Supervisor(), FakeClock()
    supervisor.deploy("v1")
    supervisor.deploy("v2")

    assert fail(supervisor, "v1", 5, clock) == []
    assert supervisor.active == "v2"


@pytest.mark.parametrize(
    ("deployed", "after"),
    [([], PLATFORM), (["v1"], PLATFORM), (["v1", "v2"], "v1"), (["v1", "v1", "v2"], "v1")],
)
def test_rolls_back_to_the_version_before(deployed: list[str], after: str) -> None:
    supervisor = Supervisor()
    for version in deployed:
        supervisor.deploy(version)

    assert supervisor.roll_back().now == after
    assert supervisor.active == after


def test_rolling_back_twice_goes_two_versions_back() -> None:
    supervisor = Supervisor()
    for version in ("v1", "v2", "v3"):
        supervisor.deploy(version)

    assert [supervisor.roll_back().now for _ in range(4)] == ["v2", "v1", PLATFORM, PLATFORM]
