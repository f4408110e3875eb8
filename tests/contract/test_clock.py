"""Both clocks tell the time in the same way."""

from datetime import UTC

import pytest

from octarm.common.clock import Clock, SystemClock
from octarm.common.testing import FakeClock


@pytest.fixture(params=[SystemClock, FakeClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


class TestClock:
    def test_tells_the_wall_clock_time_in_utc(self, clock: Clock) -> None:
        assert clock.now().tzinfo is UTC
        assert clock.now() <= clock.now()

    def test_counts_seconds_that_never_go_back(self, clock: Clock) -> None:
        before = clock.monotonic()

        assert isinstance(before, float)
        assert clock.monotonic() >= before


def test_a_fake_clock_moves_both_by_the_seconds_told() -> None:
    clock = FakeClock()
    now, counted = clock.now(), clock.monotonic()

    clock.advance(2.5)

    assert (clock.now() - now).total_seconds() == 2.5
    assert clock.monotonic() - counted == 2.5
