"""A clock that stands still and a publisher that remembers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from octarm.common.bus.publisher import Outgoing, PubAck
from octarm.models.errors import OctarmError

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class FakeClock:
    """Time that moves only when told."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """Give the present of the test."""
        return self._now

    def monotonic(self) -> float:
        """Give seconds that only `advance` moves."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


class RecordingPublisher:
    """Keeps what is published; a Msg-Id seen before is acknowledged as duplicate, not kept.

    Subjects in `refused` are answered with the given error.
    """

    max_payload = 1024 * 1024

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.refused: dict[str, OctarmError] = {}
        self._seqs: dict[str, int] = {}

    async def publish(self, message: Outgoing) -> PubAck:
        """Publish one message."""
        (answer,) = await self.publish_many([message])
        if isinstance(answer, OctarmError):
            raise answer
        return answer

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | OctarmError]:
        """Publish several; answers in order."""
        return [self._answer(message) for message in messages]

    def _answer(self, message: Outgoing) -> PubAck | OctarmError:
        refused = self.refused.get(message.subject)
        if refused is not None:
            return refused
        known = self._seqs.get(message.msg_id)
        if known is not None:
            return PubAck("FAKE", known, duplicate=True)
        self.published.append(message)
        self._seqs[message.msg_id] = len(self.published)
        return PubAck("FAKE", len(self.published), duplicate=False)
