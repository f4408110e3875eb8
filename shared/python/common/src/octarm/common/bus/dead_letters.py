"""Dead letters: what could not be handled is published to the DLQ stream, then terminated."""

from typing import Protocol

from octarm.common.bus.delivery import Delivery
from octarm.common.bus.letters import letter_of
from octarm.common.bus.publisher import Outgoing, PubAck
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import metrics
from octarm.common.telemetry.logs import get_logger
from octarm.models.errors import OctarmError

AGAIN_AFTER_S = 5.0

log = get_logger()


class Publishes(Protocol):
    """The part of `Publisher` that is needed here."""

    @property
    def max_payload(self) -> int:
        """Bytes that the server takes as one message."""
        ...

    async def publish(self, message: Outgoing) -> PubAck:
        """Publish one message; raises OctarmError."""
        ...


class DeadLetters:
    """Buries deliveries of one consumer; burying twice leaves one entry (same Msg-Id)."""

    def __init__(self, publisher: Publishes, origin: str) -> None:
        self._publisher = publisher
        self._origin = origin
        metrics.begin_consumer(origin)

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Publish reason, origin and payload; terminate only once that is stored."""
        message = letter_of(
            delivery, origin=self._origin, reason=reason, max_payload=self._publisher.max_payload
        )
        try:
            ack = await self._publisher.publish(message)
        except OctarmError as error:
            log.warning("dead_letter_not_stored", error=error.message, origin=self._origin)
            delivery.retry(AGAIN_AFTER_S)
            return
        failpoint("dlq_before_term")
        if not ack.duplicate:
            metrics.inc("octarm_bus_dead_letters_total", consumer=self._origin)
            log.error(
                "dead_letter",
                origin=self._origin,
                reason=reason[:1000],
                subject=delivery.subject,
                seq=ack.seq,
            )
        delivery.term()
