"""What a shadow has amounted to, in the words of the bus."""

from datetime import UTC, datetime

from octarm.models.policies import DifferencesFound, ShadowDifference
from octarm.policies.shadow import Difference, Tally


def found(shadow: str, tally: Tally) -> DifferencesFound:
    """Say it; the newest differences first."""
    return DifferencesFound(
        shadow=shadow,
        cycles=tally.cycles,
        equal=tally.cycles_equal,
        failed=dict(sorted(tally.failures.items())),
        placed_live=tally.placed_live,
        placed_shadow=tally.placed_shadow,
        moved=tally.moved,
        only_live=tally.only_live,
        only_shadow=tally.only_shadow,
        rejected=tally.rejected,
        differences=[_said(it) for it in reversed(tally.recent)],
    )


def _said(it: Difference) -> ShadowDifference:
    return ShadowDifference(
        at=datetime.fromtimestamp(it.at_s, UTC),
        task_id=it.task,
        live=it.live,
        shadow=it.shadow,
        reason=it.reason,
    )
