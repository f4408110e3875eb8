"""Messages that are not what a publisher of ours sends never reach a handler.

A stream's permissions are on subjects; JetStream also obeys headers. What carries a header that
commands the server, or no Msg-Id, was not published by our `Publisher` nor as the contract of
the bus asks others to.
"""

from typing import Final

from octarm.common.bus.delivery import Delivery

MSG_ID: Final = "Nats-Msg-Id"
_RESERVED: Final = ("nats-", "kv-")
# Conditions under which a client published: the server has judged them already.
_HARMLESS: Final = ("nats-msg-id", "nats-expected-")


def suspicion(delivery: Delivery) -> str:
    """Say why a message must not be handled; empty for an ordinary one."""
    headers = delivery.headers
    if MSG_ID not in headers:
        return "it has no Nats-Msg-Id"
    if len(headers) == 1:
        return ""
    for name in headers:
        lower = name.strip().lower()
        if lower.startswith(_RESERVED) and not lower.startswith(_HARMLESS):
            return f"it carries the header {name}"
    return ""
