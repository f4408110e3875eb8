"""Make text that users or models wrote safe to show.

Terminals obey escape sequences and reorder text at direction marks; what others wrote must
not be able to use either. Stored data stays verbatim, only its picture is escaped.
"""

import json
import re
import unicodedata
from typing import Any, Final

_UNSAFE_CATEGORIES: Final = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_ASCII_SAFE: Final = re.compile(r"[\x20-\x7e]*")


def clean(text: str, *, lines: bool = False) -> str:
    """Write control, direction, zero-width and private characters as visible escapes.

    With `lines`, line feeds and tabs stay as they are.
    """
    if _ASCII_SAFE.fullmatch(text):
        return text
    return "".join(_visible(char) if _is_unsafe(char, lines=lines) else char for char in text)


def shorten(text: str, width: int) -> str:
    """One line of at most `width` characters, cleaned."""
    flat = clean(" ".join(text.split()))
    return flat if len(flat) <= width else flat[: max(0, width - 1)] + "…"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Encode as JSON that a terminal shows as it is: unsafe characters as \\u escapes."""
    encoded = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    return "".join(_json_escape(char) if _is_unsafe(char, lines=True) else char for char in encoded)


def _is_unsafe(char: str, *, lines: bool) -> bool:
    if char in "\n\t":
        return not lines
    return unicodedata.category(char) in _UNSAFE_CATEGORIES


def _visible(char: str) -> str:
    code = ord(char)
    if char in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))
