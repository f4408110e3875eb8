from datetime import UTC, datetime

import pytest

from octarm.llm.backoff import Backoff, parse_retry_after

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class TestBackoff:
    def test_grows_and_stays_below_its_bound(self) -> None:
        backoff = Backoff(tries=9, initial_s=1, max_s=5)

        delays = [backoff.delay_s(made, None) or 0 for made in range(1, 9)]

        assert 0.8 <= delays[0] <= 1.2
        assert 1.6 <= delays[1] <= 2.4
        assert max(delays) <= 5

    def test_never_comes_back_earlier_than_asked(self) -> None:
        assert Backoff(initial_s=0.1, max_s=10).delay_s(1, 7.0) == 7.0

    def test_gives_up_after_its_tries_or_when_the_wait_is_too_long(self) -> None:
        assert Backoff(tries=2).delay_s(2, None) is None
        assert Backoff(max_s=10).delay_s(1, 11) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7),
        (" 0 ", 0),
        ("999999999999", 86_400),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("-3", None),
        ("soon", None),
        ("1.5", None),
        ("²", None),
    ],
)
def test_reads_retry_after_as_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOON) == seconds
