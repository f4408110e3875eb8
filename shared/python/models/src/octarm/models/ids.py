"""Identifiers: TypeIDs (`tsk_` + 26 characters of a UUIDv7) and names that people choose.

Every id may become a token of a NATS subject, so nothing outside `[A-Za-z0-9_-]{1,64}`
is ever accepted as one. The text form follows the TypeID 0.3 specification.
"""

import hashlib
import os
import re
import time
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import PlainSerializer, StringConstraints

Prefix = Literal["tsk", "epi", "mem", "dep", "ses", "evt", "pol"]

SUFFIX: Final = r"[0-7][0-9a-hjkmnp-tv-z]{25}"
TASK_ID_PATTERN: Final = rf"^tsk_{SUFFIX}$"
EPISODE_ID_PATTERN: Final = rf"^epi_{SUFFIX}$"
MEMORY_ID_PATTERN: Final = rf"^mem_{SUFFIX}$"
EVENT_ID_PATTERN: Final = rf"^evt_{SUFFIX}$"
NAME_PATTERN: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"
TOKEN_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
CORRELATION_PATTERN: Final = r"^[A-Za-z0-9-]{1,64}$"
TAG_PATTERN: Final = r"^[a-z0-9_.:/@-]+$"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}$"

TaskId = Annotated[str, StringConstraints(pattern=TASK_ID_PATTERN)]
EpisodeId = Annotated[str, StringConstraints(pattern=EPISODE_ID_PATTERN)]
MemoryId = Annotated[str, StringConstraints(pattern=MEMORY_ID_PATTERN)]
EventId = Annotated[str, StringConstraints(pattern=EVENT_ID_PATTERN)]
ArmId = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
Tenant = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
Token = Annotated[str, StringConstraints(pattern=TOKEN_PATTERN)]
Tag = Annotated[str, StringConstraints(pattern=TAG_PATTERN, max_length=64)]
# Written in order, so that equal messages have equal bytes in every process.
Tags = Annotated[frozenset[Tag], PlainSerializer(sorted, return_type=list[str], when_used="json")]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
PAIRS: Final = tuple(high + low for high in ALPHABET for low in ALPHABET)
_VALUE: Final = {letter: value for value, letter in enumerate(ALPHABET)}
# By random byte: the letter of its last five bits, and those that hold a UUID's four bits of
# version and two of variant, which are the first and the fourth behind its time.
_LETTERS: Final = bytes(ord(ALPHABET[byte & 31]) for byte in range(256))
_VERSION: Final = tuple(ALPHABET[7 << 1 | byte & 1] for byte in range(256))
_VARIANT: Final = tuple(ALPHABET[2 << 2 | byte & 0b10011] for byte in range(256))
_IS_TOKEN: Final = re.compile(TOKEN_PATTERN)
_IS_NAME: Final = re.compile(NAME_PATTERN)
_IS_TASK: Final = re.compile(TASK_ID_PATTERN)


def is_token(text: str) -> bool:
    """Tell whether `text` may stand as one token of a subject."""
    return _IS_TOKEN.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Tell whether `text` may name an arm or a tenant."""
    return len(text) <= 63 and _IS_NAME.fullmatch(text) is not None


def is_task_id(text: str) -> bool:
    """Tell whether `text` has the shape of a task id."""
    return _IS_TASK.fullmatch(text) is not None


def typeid(prefix: Prefix, uuid: int) -> str:
    """Write a 128-bit UUID as `<prefix>_` and 26 characters of Crockford base32."""
    pairs = PAIRS
    return f"{prefix}_" + "".join([pairs[uuid >> shift & 1023] for shift in range(120, -1, -10)])


def uuid7(unix_ms: int, entropy: int) -> int:
    """Build a UUIDv7 (RFC 9562 §5.7) of a time in ms and at least 74 random bits."""
    random_a = entropy >> 62 & 0xFFF
    random_b = entropy & (1 << 62) - 1
    return unix_ms << 80 | 7 << 76 | random_a << 64 | 2 << 62 | random_b


def new_id(prefix: Prefix) -> str:
    """Make a fresh id whose order follows its time of creation to the millisecond."""
    random = os.urandom(16)
    text = random.translate(_LETTERS).decode()
    begin = f"{prefix}_{_time(time.time_ns() // 1_000_000)}{_VERSION[random[0]]}"
    return f"{begin}{text[1:3]}{_VARIANT[random[3]]}{text[4:]}"


@lru_cache(maxsize=2)
def _time(unix_ms: int) -> str:
    """Write the 48 bits of time with which a UUIDv7 begins: ten letters of an id."""
    return typeid("tsk", uuid7(unix_ms, 0))[4:14]


def derived_id(prefix: Prefix, cause: str, *, unix_ms: int) -> str:
    """Make the one id that belongs to `cause`: the same cause and time give the same id."""
    digest = hashlib.sha256(cause.encode()).digest()
    return typeid(prefix, uuid7(unix_ms, int.from_bytes(digest[:10])))


def with_prefix(prefix: Prefix, other_id: str) -> str:
    """Give the id of the one thing of kind `prefix` that belongs to `other_id`."""
    return f"{prefix}_{other_id[4:]}"


def event_stem(task_id: str) -> tuple[str, int]:
    """Give with what the ids of a task's events begin, and the 15 bits that their number varies."""
    last = _VALUE[task_id[-3]] << 10 | _VALUE[task_id[-2]] << 5 | _VALUE[task_id[-1]]
    return f"evt_{task_id[4:-3]}", last


def event_id(task_id: str, seq: int) -> str:
    """Give the id of a task's event number `seq` (1 – 32,767): the task's, varied in 15 bits."""
    stem, last = event_stem(task_id)
    varied = last ^ (seq & 0x7FFF)
    return f"{stem}{ALPHABET[varied >> 10]}{PAIRS[varied & 1023]}"
