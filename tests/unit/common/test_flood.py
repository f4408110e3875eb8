"""What one sender may send."""

import pytest

from octarm.common.bus.flood import MAX_TRACKED, FloodGuard


class TestFloodGuard:
    @pytest.mark.bad_input(12)
    def test_lets_a_burst_pass_and_then_the_rate(self) -> None:
        guard = FloodGuard(rate=2, burst=3)

        at_once = [guard.admits("a", 10.0) for _ in range(5)]
        later = [guard.admits("a", 10.5), guard.admits("a", 10.5)]

        assert at_once == [True, True, True, False, False]
        assert later == [True, False]

    def test_counts_each_subject_by_itself(self) -> None:
        guard = FloodGuard(rate=1, burst=1)

        assert [guard.admits("a", 0.0), guard.admits("b", 0.0)] == [True, True]

    def test_forgets_when_there_are_too_many_subjects(self) -> None:
        guard = FloodGuard(rate=1, burst=1)
        for number in range(MAX_TRACKED):
            guard.admits(str(number), 0.0)
        known = guard.admits("0", 0.0)
        guard.admits("one more", 0.0)

        assert not known
        assert guard.admits("0", 0.0)
