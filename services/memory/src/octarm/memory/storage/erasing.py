"""Erasures in Postgres: receipts, and everywhere that a subject may stand in."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from octarm.common.storage.connections import Connection, Pool, connected, transaction
from octarm.memory.domain.receipts import receipt_digest, subject_digest, tenant_digest
from octarm.memory.storage import subjects
from octarm.memory.storage.errors import postgres_errors
from octarm.memory.usecases.erasing import Running
from octarm.models.erasure import EraseSubject, Erasure
from octarm.models.ids import with_prefix

EPISODES_AT_ONCE: Final = 100
ROWS_AT_ONCE: Final = 2_000

_COLUMNS: Final = """
erasure_id, kind, encode(subject_sha256, 'hex'), counts, begun_at, finished_at,
encode(digest, 'hex')
"""
_SAME: Final = f"""
select {_COLUMNS} from memory.erasure
where asked is not null and asked::jsonb = %s::jsonb order by begun_at limit 1
"""
_BEGIN: Final = f"""
insert into memory.erasure (erasure_id, tenant_sha256, subject_sha256, kind, asked)
values (%s, %s, %s, %s, %s) returning {_COLUMNS}
"""
_RECEIPT: Final = f"""
select {_COLUMNS} from memory.erasure where erasure_id = %s and tenant_sha256 = %s
"""
_RUNNING: Final = """
select erasure_id, asked from memory.erasure where asked is not null order by begun_at limit 20
"""
_COUNT: Final = """
update memory.erasure set counts = (
    counts::jsonb || jsonb_build_object(
        %(store)s::text, coalesce((counts ->> %(store)s)::bigint, 0) + %(more)s)
)::json
where erasure_id = %(erasure)s and asked is not null
"""
_FINISH: Final = """
update memory.erasure set asked = null, finished_at = %s, digest = decode(%s, 'hex')
where erasure_id = %s and asked is not null
"""
_NOTE: Final = """
insert into memory.erased (erasure_id, id) select %s, unnest(%s::text[]) on conflict do nothing
"""
_FORGOTTEN: Final = """
select id from memory.erased
where erasure_id = %s and id > %s and id < 'epi_~' order by id limit %s
"""


class PostgresErasing:
    """Works as the owner of the tables, and names the tenant in every statement."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, erasure_id: str, command: EraseSubject) -> Erasure:
        """Write down that this is to be erased; one that is under way already is given."""
        asked = command.model_dump_json()
        row = [
            erasure_id,
            tenant_digest(command.tenant),
            subject_digest(erasure_id, command.subject),
            command.subject.kind,
            asked,
        ]
        with postgres_errors():
            async with transaction(self._pool) as connection:
                await connection.execute("lock table memory.erasure in share row exclusive mode")
                cursor = await connection.execute(_SAME, [asked])
                found = await cursor.fetchone()
                if found is None:
                    found = await (await connection.execute(_BEGIN, row)).fetchone()
        assert found is not None
        return _receipt(found)

    async def receipt(self, tenant: str, erasure_id: str) -> Erasure | None:
        """Give a tenant's receipt."""
        with postgres_errors():
            async with connected(self._pool) as connection:
                cursor = await connection.execute(_RECEIPT, [erasure_id, tenant_digest(tenant)])
                found = await cursor.fetchone()
        return None if found is None else _receipt(found)

    async def running(self) -> list[Running]:
        """Give those under way, the oldest first."""
        with postgres_errors():
            async with connected(self._pool) as connection:
                rows = await (await connection.execute(_RUNNING)).fetchall()
        commands = [(row[0], EraseSubject.model_validate(row[1])) for row in rows]
        return [Running(one, command.tenant, command.subject) for one, command in commands]

    async def episodes(self, running: Running) -> list[str]:
        """Give some episodes of the subject."""
        asked = _asked(running) | {"limit": EPISODES_AT_ONCE}
        with postgres_errors():
            async with connected(self._pool) as connection:
                cursor = await connection.execute(
                    subjects.EPISODES[running.subject.kind].encode(), asked
                )
                return [row[0] for row in await cursor.fetchall()]

    async def note(self, running: Running, episode_ids: Sequence[str]) -> None:
        """Write down, and count once, episodes that will be forgotten."""
        with postgres_errors():
            async with transaction(self._pool) as connection:
                cursor = await connection.execute(_NOTE, [running.erasure_id, list(episode_ids)])
                await _count(connection, running, "episodes", cursor.rowcount)

    async def gone(self, running: Running, episode_ids: Sequence[str]) -> None:
        """Delete what was noted of episodes on the way to memories."""
        with postgres_errors():
            async with transaction(self._pool) as connection:
                for sql in subjects.OF_EPISODES:
                    await connection.execute(sql.encode(), [running.tenant, list(episode_ids)])

    async def forgotten(self, running: Running) -> AsyncIterator[list[str]]:
        """Give the episodes that were forgotten, some at a time."""
        after = "epi_"
        while True:
            with postgres_errors():
                async with connected(self._pool) as connection:
                    cursor = await connection.execute(
                        _FORGOTTEN, [running.erasure_id, after, ROWS_AT_ONCE]
                    )
                    ids = [row[0] for row in await cursor.fetchall()]
            if not ids:
                return
            yield ids
            after = ids[-1]

    async def knowledge(self, running: Running) -> None:
        """Delete the memories of the subject, then what was derived from those, and so on."""
        with postgres_errors():
            if running.subject.kind == "task":
                async with connected(self._pool) as connection:
                    await connection.execute(_NOTE, [running.erasure_id, [running.subject.key]])
            while await self._sweep(running):
                pass
            async with connected(self._pool) as connection:
                await connection.execute(subjects.ORIGINS, _asked(running))

    async def _sweep(self, running: Running) -> bool:
        """Look at every row once, a piece at a time; tells whether some went."""
        sql = subjects.SWEEP.format(condition=subjects.OF_SUBJECT[running.subject.kind]).encode()
        after, gone = "", False
        while True:
            asked = _asked(running) | {"after": after, "limit": ROWS_AT_ONCE, "ids": subjects.IDS}
            async with transaction(self._pool) as connection:
                row = await (await connection.execute(sql, asked)).fetchone()
                deleted, last, seen = row or (0, None, 0)
                await _count(connection, running, "postgres.semantic", deleted)
            gone = gone or deleted > 0
            if last is None or seen < ROWS_AT_ONCE:
                return gone
            after = last

    async def traces(self, running: Running) -> None:
        """Take the subject out of the audit, the words and the statistics."""
        asked = _asked(running)
        with postgres_errors():
            async with transaction(self._pool) as connection:
                cursor = await connection.execute(
                    subjects.AUDIT[running.subject.kind].encode(), asked
                )
                await _count(connection, running, "postgres.audit", cursor.rowcount)
                if running.subject.everything:
                    for store, sql in subjects.OF_TENANT:
                        cursor = await connection.execute(sql.encode(), asked)
                        await _count(connection, running, f"postgres.{store}", cursor.rowcount)
            async with connected(self._pool) as connection:
                await connection.execute(subjects.WORDS)
                for table in subjects.TABLES:
                    await connection.execute(f"analyze memory.{table}".encode())
                await connection.execute(subjects.SAMPLES.encode())

    async def finish(self, running: Running) -> None:
        """Close the receipt, and forget of whom it is."""
        with postgres_errors():
            async with transaction(self._pool) as connection:
                cursor = await connection.execute(
                    f"select {_COLUMNS}, date_trunc('milliseconds', clock_timestamp())"
                    " from memory.erasure where erasure_id = %s and asked is not null for update",
                    [running.erasure_id],
                )
                found = await cursor.fetchone()
                if found is None:
                    return
                *fields, now = found
                done = _receipt(fields).model_copy(update={"state": "done", "finished_at": now})
                digest = receipt_digest(done)
                await connection.execute(_FINISH, [now, digest, running.erasure_id])
                await connection.execute(
                    "delete from memory.erased where erasure_id = %s", [running.erasure_id]
                )


def _asked(running: Running) -> dict[str, Any]:
    key = running.subject.key
    return {
        "tenant": running.tenant,
        "erasure": running.erasure_id,
        "key": key,
        "quoted": json.dumps(key),
        "own": with_prefix("epi", key) if running.subject.kind == "task" else "",
    }


async def _count(connection: Connection, running: Running, store: str, more: int) -> None:
    if more > 0:
        asked = {"store": store, "more": more, "erasure": running.erasure_id}
        await connection.execute(_COUNT, asked)


def _receipt(row: Sequence[Any]) -> Erasure:
    erasure_id, kind, subject, counts, begun_at, finished_at, digest = row
    return Erasure(
        erasure_id=erasure_id,
        kind=kind,
        state="running" if finished_at is None else "done",
        subject_sha256=subject,
        begun_at=begun_at,
        finished_at=finished_at,
        counts=counts,
        digest=digest,
    )
