"""Why a policy gave nothing is counted from 0 on, each reason."""

from typing import get_args

from octarm.common.telemetry.metrics import METRICS
from octarm.policies.outcomes import Reason


def test_every_reason_has_a_series_from_the_start() -> None:
    (metric,) = [it for it in METRICS if it.name == "octarm_scheduler_policy_errors_total"]

    assert set(metric.starts) == set(get_args(Reason))
