"""Remember finished tasks: Postgres keeps them, and whoever reads one puts it in Redis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import Raw
from msgspec.structs import replace
from pydantic_core import from_json, to_json

from octarm.common.redaction import redact_json
from octarm.common.telemetry import metrics
from octarm.memory.domain.entries import encode, fold
from octarm.memory.domain.episode import Episode
from octarm.memory.usecases.ports import Episodes


@dataclass(frozen=True, slots=True)
class RememberTasks:
    """Keep the episodes of finished tasks; idempotent.

    Most are never read one by one: to put them all in Redis as well cost as much as to keep them.
    """

    kept: Episodes
    redacts: bool = False

    async def __call__(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        """Give episode id → reason for those that can never be kept.

        Raises:
            Unavailable: Postgres does not answer; nothing is lost if asked again.
        """
        episodes = [_redacted(one) for one in episodes] if self.redacts else episodes
        refused = await self.kept.add(episodes)
        metrics.inc("octarm_memory_episodes_total", len(episodes) - len(refused))
        return refused


def redacted(body: Raw) -> Raw:
    """Take secrets and personal data of known shapes out of a JSON value."""
    value, found = redact_json(from_json(bytes(body)))
    return Raw(to_json(value)) if found else body


def _redacted(episode: Episode) -> Episode:
    whole = fold(episode.body.encode(), {})
    whole.observations = [redacted(body) for body in whole.observations]
    whole.outcomes = [redacted(body) for body in whole.outcomes]
    return replace(episode, body=encode(whole).decode())
