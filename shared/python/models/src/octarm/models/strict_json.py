"""JSON as we accept it from outside: what two readers could understand differently is refused.

RFC 8259 leaves duplicate keys, NaN, a byte order mark, lone surrogates and huge numbers to
the reader. Here each of them is an error, so that what was screened is what is stored.
"""

import json
import re
from itertools import pairwise
from typing import Any, Final, NoReturn

from octarm.models.errors import FieldError, Unparsable

MAX_DEPTH: Final = 100
# Reading takes about a microsecond a value, and holds everything else up meanwhile.
MAX_VALUES: Final = 20_000
MIN_INT: Final = -(2**63)
MAX_UINT: Final = 2**64 - 1
# A string, a bracket, a separator or a bare word; the text between two of them is blank.
# The closing quote is optional, so that no input makes it look at a character twice.
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}:,]|[^\s"\[\]{}:,]+', re.DOTALL)
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_MAX_INT_CHARS: Final = 20
_SEARCHED_CHARS: Final = 100_000


class _Refused(ValueError):
    """`token` is well-formed, or nearly, and still not accepted."""

    def __init__(self, token: str, message: str) -> None:
        super().__init__(message)
        self.token = token


def loads(data: bytes, *, max_values: int = MAX_VALUES) -> Any:
    """Read one JSON document in UTF-8.

    Integers may have 64 bits (−2⁶³ … 2⁶⁴−1), nesting 100 levels, the whole `max_values` values.

    Raises:
        Unparsable: it is not such a document; the error names path and position.
    """
    text = _text(data)
    _check_values(text, max_values)
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        _refuse(error.msg, text, error.pos)
    except _Refused as error:
        _refuse(str(error), text, _position(text, error.token))
    except UnicodeEncodeError:
        _refuse("Half of a surrogate pair stands alone", text, None)
    return value


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Unparsable(f"The body is not UTF-8: byte {error.start}") from None
    if not text.strip(" \t\r\n"):
        raise Unparsable("The body is empty")
    if text[0] == "\ufeff":
        raise Unparsable("The body begins with a byte order mark")
    return text


def _check_values(text: str, most: int) -> None:
    """Count what begins values, without reading them: in a few milliseconds for a megabyte."""
    surplus = _begin_values(text) - most
    if surplus <= 0:
        return
    # Some may stand in strings, which are searched only as long as there may be so many.
    for number, string in enumerate(_STRING.finditer(text)):
        surplus -= _begin_values(string[0])
        if surplus <= 0:
            return
        if number >= most:
            break
    _refuse(f"More than {most:,} values", text, None)


def _begin_values(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                _refuse(f"Nested more than {MAX_DEPTH} levels deep", text, token.start())
        elif token[0] in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Refused(json.dumps(key, ensure_ascii=False), "Twice the same key")
        found[key] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MAX_INT_CHARS or not MIN_INT <= (number := int(digits)) <= MAX_UINT:
        raise _Refused(digits, "An integer of more than 64 bits")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise _Refused(digits, "A number too large")
    return number


def _constant(word: str) -> NoReturn:
    raise _Refused(word, f"{word} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_constant
)


def _position(text: str, word: str) -> int | None:
    """Find where `word` stands for the last time as a value or, a string, as a key."""
    position = None
    tokens = _tokens(text, len(text))
    for token, following in pairwise(tokens):
        if token[0] == word and (word[0] != '"' or following[0] == ":"):
            position = token.start() if word[0] != '"' else following.end()
    return position


def _tokens(text: str, end: int) -> "list[re.Match[str]]":
    return list(_TOKEN.finditer(text, 0, min(end, _SEARCHED_CHARS)))


def _path(text: str, position: int) -> str:
    """Say which field holds `position`: keys and indices, dots between them."""
    path: list[str | int] = []
    key = ""
    for token in _tokens(text, position):
        word = token[0]
        if word in "[{":
            path.append(0 if word == "[" else "")
        elif word in "]}":
            del path[-1:]
        elif word == "," and path and isinstance(path[-1], int):
            path[-1] += 1
        elif word == ":" and path:
            path[-1] = key
        elif word[0] == '"':
            key = word[1:-1]
    return ".".join(str(part) for part in path if part != "")


def _refuse(message: str, text: str, position: int | None) -> NoReturn:
    """Raise the error with the field that holds `position`, as far as it was searched for."""
    if position is None or position > _SEARCHED_CHARS:
        raise Unparsable(message, errors=[FieldError(field="", message=message)])
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    where = f"{message}: line {line}, column {column}"
    raise Unparsable(where, errors=[FieldError(field=_path(text, position)[:300], message=where)])
