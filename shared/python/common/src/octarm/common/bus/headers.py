"""Headers of messages: what others give us cannot command the server or break a line."""

import re
from collections.abc import Mapping
from typing import Final

_RESERVED: Final = ("nats-", "kv-")
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
_NOT_IN_VALUE: Final = re.compile(r"[\r\n\0]")


def safe_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Copy headers without the names by which a client could command the server."""
    if not headers:
        return {}
    return {
        name: value
        for name, value in headers.items()
        if not name.strip().lower().startswith(_RESERVED)
    }


def encode_headers(headers: Mapping[str, str] | None) -> bytes:
    """Write headers as they travel, one line each; what could break a line becomes a space."""
    lines = [
        f"{_NOT_IN_NAME.sub('', name)}: {_NOT_IN_VALUE.sub(' ', value)}\r\n"
        for name, value in safe_headers(headers).items()
    ]
    return "".join(lines).encode()
