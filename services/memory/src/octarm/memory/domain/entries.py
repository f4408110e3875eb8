"""Entries of an episode, and the episode that they make together: pure, without I/O or a clock.

An episode is a base and a set of entries. Their order is that of `seq`, then of the entry's id, so
it is the same whatever the order in which they arrived, and however often each did.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct
from pydantic_core import from_json

from octarm.memory.domain.episode import Episode, is_sound
from octarm.models import hot
from octarm.models.episodes import MAX_ENTRY_BYTES
from octarm.models.errors import InvalidRequest, OctarmError, PayloadTooLarge
from octarm.models.hot_episodes import EpisodeOpening, EpisodeWrite

# With its frame an episode fits one message of the bus.
MAX_EPISODE_BYTES: Final = 700 * 1024
MAX_ENTRIES: Final = 2_000
_LISTS: Final = {"observation": "observations", "action": "actions", "outcome": "outcomes"}


class Entry(Struct, frozen=True, gc=False, omit_defaults=True):
    """An entry as it is stored; its id is its key."""

    seq: int
    kind: str
    body: Raw = hot.NULL
    ttl_seconds: int | None = None


class Whole(Struct, gc=False):
    """An `EpisodicMemory` whose parts are passed on as they are."""

    episode_id: str
    tenant: str
    arm_id: str | None
    task_id: str
    created_at: str
    ttl_seconds: int
    observations: list[Raw] = []
    actions: list[Raw] = []
    outcomes: list[Raw] = []
    tags: list[str] = []
    retention: str = "normal"
    closed: bool = False
    left_out: int = 0


_decode_whole = msgspec.json.Decoder(Whole).decode
_decode_entry = msgspec.json.Decoder(Entry).decode
encode: Final = msgspec.json.Encoder().encode


def refusal(write: EpisodeWrite) -> OctarmError | None:
    """Say why a write can never be kept; None when it can."""
    if (write.kind == "open") != (write.opening is not None):
        return InvalidRequest("`opening` belongs to the kind `open`, and to no other")
    if (write.kind == "extend") != (write.ttl_seconds is not None):
        return InvalidRequest("`ttl_seconds` belongs to the kind `extend`, and to no other")
    if write.kind not in _LISTS and bytes(write.body) != b"null":
        return InvalidRequest(f"a body belongs to an entry, not to `{write.kind}`")
    size = len(memoryview(write.body))
    if size > MAX_ENTRY_BYTES:
        return PayloadTooLarge(f"an entry has {MAX_ENTRY_BYTES} bytes at most, this one {size}")
    if not is_sound(write.body):
        return InvalidRequest("the body is no JSON that can be read again")
    return None


def opened(tenant: str, episode_id: str, opening: EpisodeOpening, *, created_at: str) -> Episode:
    """Make the base of an episode that an arm opens."""
    whole = Whole(
        episode_id=episode_id,
        tenant=tenant,
        arm_id=opening.arm_id,
        task_id=opening.task_id,
        created_at=created_at,
        ttl_seconds=opening.ttl_seconds,
        tags=opening.tags,
        retention=opening.retention,
    )
    return Episode(
        tenant,
        episode_id,
        opening.arm_id,
        created_at,
        encode(whole).decode(),
        task_id=opening.task_id,
        tags=tuple(opening.tags),
        retention=opening.retention,
    )


def stored(entry: Entry) -> bytes:
    """Write an entry as Redis keeps it."""
    return encode(entry)


def fold(body: bytes, entries: Mapping[str, Entry]) -> Whole:
    """Give the episode that a base and its entries make.

    Raises:
        msgspec.MsgspecError: the base is not one.
    """
    whole = _decode_whole(body)
    room = MAX_EPISODE_BYTES - len(body)
    for _, entry in sorted(entries.items(), key=lambda one: (one[1].seq, one[0])):
        if entry.kind == "close":
            whole.closed = True
        elif entry.kind == "extend":
            whole.ttl_seconds = max(whole.ttl_seconds, entry.ttl_seconds or 0)
        else:
            room -= len(memoryview(entry.body)) + 1
            if room < 0:
                whole.left_out += 1
            else:
                getattr(whole, _LISTS[entry.kind]).append(entry.body)
    return whole


def read_cached(
    tenant: str, episode_id: str, body: bytes | None, fields: Iterable[tuple[bytes, bytes]]
) -> bytes | None:
    """Give the JSON of the episode that Redis had; None when that is not this episode."""
    try:
        entries = {name.decode(): _decode_entry(value) for name, value in fields}
        whole = fold(body or b"", entries)
        if (whole.tenant, whole.episode_id) != (tenant, episode_id):
            return None
        text = encode(whole)
        from_json(text, allow_inf_nan=False)
    except (ValueError, KeyError, RecursionError):
        return None
    return text
