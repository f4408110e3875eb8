"""How an instance has fared lately, and what the metrics hear of it."""

from prometheus_client.parser import text_string_to_metric_families

from octarm.common.telemetry import metrics
from octarm.sdk.tally import Tally
from tests.support.wait import wait_until


def counted() -> tuple[float, float, float]:
    """Successes, failures, and the seconds of both, since the process began."""
    samples = {
        (sample.name, sample.labels.get("status")): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }
    return (
        samples.get(("octarm_arm_attempts_total", "success"), 0.0),
        samples.get(("octarm_arm_attempts_total", "failure"), 0.0),
        samples.get(("octarm_arm_attempt_seconds_sum", None), 0.0),
    )


async def test_the_metrics_hear_of_every_attempt_before_long() -> None:
    before = counted()
    tally = Tally()

    tally.ended(0.25, failed=False)
    tally.ended(0.5, failed=True)
    tally.ended(0.25, failed=False)
    await wait_until(lambda: counted() != before)

    more = [now - then for now, then in zip(counted(), before, strict=True)]
    assert more == [2, 1, 1.0]


async def test_nothing_is_counted_twice() -> None:
    before = counted()
    tally = Tally()
    tally.ended(0.25, failed=False)

    tally.flush()
    tally.flush()

    assert counted()[0] - before[0] == 1


async def test_a_slow_first_attempt_does_not_stay_in_the_latency() -> None:
    tally = Tally()

    tally.ended(1.0, failed=False)
    for _ in range(9):
        tally.ended(0.0, failed=False)
    early = tally.avg_latency_ms
    for _ in range(200):
        tally.ended(0.0, failed=False)
    tally.flush()

    assert round(early, 6) == 100.0
    assert tally.avg_latency_ms < 1.0


async def test_a_bucket_names_one_sampled_trace_and_counts_all() -> None:
    before = counted()
    tally = Tally()

    for letter, seconds in (("a", 0.25), ("b", 0.25), ("c", 7.5), ("d", 0.25)):
        tally.ended(seconds, failed=False, traceparent=f"00-{letter * 32}-{'e' * 16}-01")
    tally.flush()

    assert counted()[0] - before[0] == 4
    shown = metrics.negotiated("application/openmetrics-text")[0].decode()
    assert [letter for letter in "abcd" if f'trace_id="{letter * 32}"' in shown] == ["a", "c"]
