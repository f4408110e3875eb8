"""Dead letters: what could not be handled is published to the DLQ stream, then terminated."""

from typing import Final

import msgspec

from octarm.common.bus.delivery import Delivery
from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.failpoints import failpoint
from octarm.common.telemetry import metrics
from octarm.common.telemetry.logs import get_logger
from octarm.models.errors import OctarmError
from octarm.models.subjects import DEAD_LETTER

FIRST_BYTES: Final = 1024

log = get_logger()


class DeadLetters:
    """Buries deliveries of one consumer; burying twice leaves one entry (same Msg-Id)."""

    def __init__(self, publisher: Publisher, origin: str) -> None:
        self._publisher = publisher
        self._origin = origin

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Publish reason, origin, attempt and first bytes; terminate only once that is stored."""
        body = msgspec.json.encode(
            {
                "origin": self._origin,
                "subject": delivery.subject,
                "stream_seq": delivery.stream_seq,
                "deliveries": delivery.deliveries,
                "published_at": delivery.published_at,
                "reason": reason[:1000],
                "size_bytes": len(delivery.data),
                "first_bytes": delivery.data[:FIRST_BYTES],
            }
        )
        msg_id = f"dlq:{self._origin}:{delivery.stream_seq}"
        message = Outgoing(DEAD_LETTER.format(origin=self._origin), body, msg_id)
        try:
            await self._publisher.publish(message)
        except OctarmError as error:
            log.warning("dead_letter_not_stored", error=error.message, origin=self._origin)
            delivery.retry(5.0)
            return
        failpoint("dlq_before_term")
        metrics.inc("octarm_bus_dead_letters_total", consumer=self._origin)
        log.error("dead_letter", origin=self._origin, reason=reason, subject=delivery.subject)
        delivery.term()
