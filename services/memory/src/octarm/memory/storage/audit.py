"""Who read and wrote what in semantic memory: rows of `memory.audit`."""

import json
from collections.abc import Sequence
from typing import Final

from octarm.common.storage.connections import Connection
from octarm.memory.usecases.knowledge import Audited

_ADD: Final = """
insert into memory.audit (at, tenant, arm_id, action, verdict, about)
values (%s, %s, %s, %s, %s, %s)
"""


async def insert_audit(connection: Connection, entries: Sequence[Audited]) -> None:
    """Add entries within a transaction behind the wall of their tenant."""
    rows = [
        (one.at, one.tenant, one.arm_id, one.action, one.verdict, json.dumps(one.about))
        for one in entries
    ]
    async with connection.cursor() as cursor:
        await cursor.executemany(_ADD, rows)
