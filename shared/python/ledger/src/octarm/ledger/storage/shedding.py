"""The load-shedding switch in the ledger: durable, and with all that was ever switched."""

from typing import Final

from octarm.common.bus.cloud_events import cloud_event
from octarm.common.bus.publisher import Outgoing
from octarm.common.storage import Pool, connected, transaction
from octarm.ledger.domain.changes import Entry
from octarm.ledger.domain.shedding import Sheds, Switch
from octarm.ledger.storage.outbox import write_entry
from octarm.models.events import SheddingEvent
from octarm.models.ids import new_id
from octarm.models.shedding import MAX_PAST, SheddingFound, ShedMode, Switched, SwitchShedding
from octarm.models.subjects import SHEDDING_EVENT

_PUT: Final = """
insert into ledger.shedding (tenant, mode, reason, switched_by, until)
values (%(tenant)s, %(mode)s, %(reason)s, %(by)s,
    case when %(mode)s <> 'open' then now() + make_interval(secs => %(seconds)s) end)
returning tenant, mode, reason, null, switched_by, switched_at, until
"""
# Judged by the database's clock, and by no other.
_STANDING: Final = """
select tenant, mode, reason, extract(epoch from until - now())::float8,
    switched_by, switched_at, until
from (select distinct on (tenant) * from ledger.shedding order by tenant, id desc) last
where mode <> 'open' and (until is null or until > now())
order by tenant nulls first
"""
_PAST: Final = f"""
select tenant, mode, reason, null, switched_by, switched_at, until
from ledger.shedding order by id desc limit {MAX_PAST}
"""


class PostgresShedding:
    """Reads and puts the switch."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, wanted: SwitchShedding) -> Entry | None:
        """Put the switch of the fleet or of a tenant; what stood before stays in the history.

        Gives what is to be told of it, which is in the outbox already.
        """
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_PUT, wanted.model_dump(mode="json"))
            row = await cursor.fetchone()
            assert row is not None
            return await write_entry(connection, [_told(_shown(row))])

    async def standing(self) -> Sheds:
        """Give what is shed now."""
        async with connected(self._pool) as connection:
            rows = await (await connection.execute(_STANDING)).fetchall()
        return Sheds({row[0]: Switch(ShedMode(row[1]), row[2], row[3]) for row in rows})

    async def found(self) -> SheddingFound:
        """Show what is shed now, and how the switches were put, the newest first."""
        async with connected(self._pool) as connection:
            now = await (await connection.execute(_STANDING)).fetchall()
            past = await (await connection.execute(_PAST)).fetchall()
        return SheddingFound(now=[_shown(row) for row in now], past=[_shown(row) for row in past])


def _told(switched: Switched) -> Outgoing:
    event = SheddingEvent(event_id=new_id("evt"), occurred_at=switched.at, switch=switched)
    subject = SHEDDING_EVENT.at(verb=event.type.removeprefix("shedding."))
    return cloud_event(subject, event, source="orchestrator", about=switched.tenant or "fleet")


def _shown(row: tuple[object, ...]) -> Switched:
    tenant, mode, reason, _, by, at, until = row
    return Switched.model_validate(
        {"tenant": tenant, "mode": mode, "reason": reason, "by": by, "at": at, "until": until}
    )
