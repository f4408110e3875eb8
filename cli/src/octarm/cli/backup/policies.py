"""The policies' bucket as lines of JSON: what is deployed lives on the bus alone."""

import base64
import json
from collections.abc import Sequence
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, NoKeysError, NotFoundError
from nats.js.kv import KeyValue

from octarm.common.bus.connection import connected_to
from octarm.models.errors import Conflict, Unavailable
from octarm.models.subjects import POLICIES_BUCKET

# It names the other keys: written last, it never names what is not there yet.
LAST: Final = "state"


async def read(url: str) -> list[str]:
    """Give all keys with their values, one line each.

    Raises:
        Unavailable: NATS does not answer, or has no such bucket.
    """
    async with connected_to(url, name="octarm-backup") as nc:
        bucket = await _bucket(nc.jetstream())
        rows = []
        for key in await _keys(bucket):
            try:
                entry = await bucket.get(key)
            except KeyNotFoundError:
                continue  # deleted meanwhile
            rows.append({"key": key, "value": base64.b64encode(entry.value or b"").decode()})
    return [json.dumps(row) for row in rows]


async def put_back(url: str, lines: Sequence[str], *, replace: bool) -> None:
    """Write the keys of a backup, and remove all others.

    Raises:
        Conflict: there are policies already and `replace` is not set.
        Unavailable: NATS does not answer, or has no such bucket.
    """
    rows = [json.loads(line) for line in lines]
    async with connected_to(url, name="octarm-restore") as nc:
        bucket = await _bucket(nc.jetstream())
        there = await _keys(bucket)
        if there and rows and not replace:
            raise Conflict(
                "there are policies on this bus already",
                "Restore onto an empty bus, or say --replace to throw away what is there.",
            )
        for row in sorted(rows, key=lambda row: row["key"] == LAST):
            await bucket.put(row["key"], base64.b64decode(row["value"]))
        for key in set(there) - {row["key"] for row in rows}:
            await bucket.purge(key)


async def _keys(bucket: KeyValue) -> list[str]:
    try:
        return list(await bucket.keys())
    except NoKeysError:
        return []


async def _bucket(js: JetStreamContext) -> KeyValue:
    try:
        return await js.key_value(POLICIES_BUCKET)
    except NotFoundError:
        raise Unavailable(
            f"this bus has no bucket {POLICIES_BUCKET}", "Run `octarm bus provision`."
        ) from None
