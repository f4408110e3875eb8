"""What is in front may be away: reads and writes go on without it."""

from collections.abc import Sequence

from octarm.common.telemetry import metrics
from octarm.memory.domain.episode import Episode
from octarm.memory.usecases.ports import Front, FrontDown


async def put_in_front(front: Front, episodes: Sequence[Episode]) -> bool:
    """Put episodes in Redis; false when it does not answer, which only makes reads slower."""
    try:
        await front.put(episodes)
    except FrontDown:
        metrics.put("octarm_memory_degraded", 1)
        return False
    metrics.put("octarm_memory_degraded", 0)
    return True
