"""Messages as a consumer gets them, without a bus."""

from collections.abc import Callable
from dataclasses import dataclass

from octarm.common.bus.delivery import Delivery


@dataclass
class AMessage:
    """The part of a NATS message that a delivery looks at."""

    subject: str
    data: bytes
    headers: dict[str, str] | None = None
    reply: str = ""


def a_delivery(
    subject: str,
    data: bytes,
    again: Callable[[Delivery], None] | None = None,
    *,
    seq: int = 17,
    **headers: str,
) -> Delivery:
    """A first delivery, stored as number `seq` of its stream."""
    reply = f"$JS.ACK.S.C.1.{seq}.1.1763726400000000000.0"
    message = AMessage(subject, data, headers or None, reply)
    return Delivery(message, lambda *_: None, again)  # type: ignore[arg-type]
