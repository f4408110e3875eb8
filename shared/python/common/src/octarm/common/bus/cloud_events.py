"""Facts other than those of tasks as they stand in EVENTS: CloudEvents 1.0, binary mode."""

from octarm.common.bus.headers import encode_headers
from octarm.common.bus.publisher import Outgoing
from octarm.models.events import ArmEvent, MemoryEvent, PolicyEvent, SheddingEvent


def cloud_event(
    subject: str,
    event: ArmEvent | MemoryEvent | PolicyEvent | SheddingEvent,
    *,
    source: str,
    about: str,
) -> Outgoing:
    """Give what a service (`source`) publishes on `subject`; `about` is whom the fact is of."""
    return Outgoing(
        subject=subject,
        payload=event.model_dump_json().encode(),
        msg_id=event.event_id,
        head=encode_headers(
            {
                "ce-specversion": "1.0",
                "ce-id": event.event_id,
                "ce-type": f"octarm.{event.type}",
                "ce-source": f"octarm/{source}",
                "ce-time": event.occurred_at.isoformat(),
                "ce-subject": about,
                "content-type": "application/json",
            }
        ),
    )
