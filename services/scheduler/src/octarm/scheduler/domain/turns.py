"""Whose turn it is when the leaders of several shards want the slot that has become free."""

import zlib
from typing import Final

TURN_S: Final = 1.0
# Longer than the way of a placement from one leader to the others.
YIELD_S: Final = 0.025


def yield_s(arm_id: str, *, shard: int, shards: int, at_s: float) -> float:
    """Give the seconds for which a shard leaves a freed slot of an arm to the others.

    The shard whose turn it is waits for nobody, the one after it `YIELD_S`, and so on. Turns
    change every second of the wall clock (`at_s`, Unix time), so that each shard gets its share
    of an arm that all want; clocks that differ only make two shards serve themselves at once.
    """
    first = zlib.crc32(arm_id.encode()) + int(at_s / TURN_S)
    return (shard - first) % shards * YIELD_S
