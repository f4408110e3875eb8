"""Terminal events of tasks, in batches."""

import time
from collections.abc import Sequence
from typing import Final

from octarm.common.bus.delivery import ACK, Dead, Delivery, Outcome
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import tracing
from octarm.memory.domain.episode import Ending, Episode, NotAnEnding, episode_of, read_endings
from octarm.memory.usecases.remembering import RememberTasks

SPAN: Final = "memory.remember"


class TerminalEvents:
    """The batch handler of the durable `memory-remember-task`."""

    def __init__(self, remember: RememberTasks, *, ttl_s: int) -> None:
        self._remember = remember
        self._ttl_s = ttl_s

    async def __call__(self, deliveries: list[Delivery]) -> Sequence[Outcome]:
        """Remember a batch: a message with what is no terminal event is dead, the rest is kept.

        Raises:
            Unavailable: Postgres does not answer; the runner asks for the batch again.
        """
        started_ns = time.time_ns()
        outcomes: list[Outcome] = [ACK] * len(deliveries)
        places: dict[str, int] = {}
        episodes: list[Episode] = []
        sampled: list[Ending] = []
        for place, delivery in enumerate(deliveries):
            try:
                endings, why = read_endings(delivery.data)
            except NotAnEnding as error:
                endings, why = [], str(error)
            if why:
                outcomes[place] = Dead(why)
            for ending in endings:
                episode = episode_of(ending, ttl_s=self._ttl_s)
                episodes.append(episode)
                places[episode.episode_id] = place
                if tracing.is_sampled(ending.traceparent):
                    sampled.append(ending)
        refused = await self._remember(episodes) if episodes else {}
        for episode_id, why in refused.items():
            outcomes[places[episode_id]] = Dead(why)
        ended_ns = time.time_ns()
        for ending in sampled:
            _trace(ending, started_ns, ended_ns)
        failpoint("memory_before_ack")
        return outcomes


def _trace(ending: Ending, began_ns: int, ended_ns: int) -> None:
    parent = ending.traceparent
    own, common = tracing.child(parent), (ending.tenant,)
    tracing.passed(tracing.Hop(SPAN, parent, own, began_ns, ended_ns, ending.task_id, common))
