"""Recording what became of attempts: one transaction for each batch of news."""

from collections.abc import Mapping, Sequence
from typing import Final

from psycopg.errors import LockNotAvailable, UniqueViolation

from octarm.common.bus.publisher import Outgoing
from octarm.common.storage import Pool, transaction
from octarm.common.storage.arrays import Int4s, Texts, packed
from octarm.common.storage.connections import Connection
from octarm.ledger.domain.changes import Announce, Entry, Moved, Stray
from octarm.ledger.domain.lifecycle import ATTEMPTED
from octarm.ledger.domain.news import AttemptNews, Key, Step, is_short
from octarm.ledger.storage.budgets import times_of
from octarm.ledger.storage.finishing import before_commit, finish, finish_and_tell
from octarm.ledger.storage.news_rows import (
    ATTEMPT_COLUMNS,
    MOVE_COLUMNS,
    attempt_row,
    move_row,
)
from octarm.ledger.storage.outbox import write_entry
from octarm.ledger.storage.relatives import Relatives
from octarm.ledger.storage.statements import moved_row
from octarm.ledger.storage.stopping import stop_by_results
from octarm.models.states import TaskState

# The rows of all tasks given are locked first, in the order of their ids, so two transactions that
# record news never deadlock, whatever they change afterwards. The number of events added is that
# of `lifecycle.events_to`; a test holds the two equal.
_MOVE: Final = """
with given as (
    select * from unnest(%b::text[], %b::int[], %b::text[], %b::text[], %b::int[], %b::bool[],
        %b::bool[], %b::float8[], %b::bigint[], %b::timestamptz[], %b::text[])
    as given(id, attempt, arm_id, instance_id, step, ok, retry, delay_s, dispatch_seq, started_at,
        error)
), locked as (
    select id, attempt, arm_id, cancelling_since, state, event_seq from ledger.task
    where id = any(%b::text[]) order by id for update
), r as (
    select r.*, t.state as old_state, t.event_seq as old_seq
    from locked t join given r on t.id = r.id and t.attempt = r.attempt
    where (t.arm_id is null or t.arm_id = r.arm_id) and t.cancelling_since is null and (
        (r.step = 0 and t.state = 'queued')
        or (r.step = 1 and t.state in ('queued', 'dispatched'))
        or (r.step = 2 and t.state = any(%b::text[])))
)
update ledger.task t set
    state = case r.step when 0 then 'dispatched' when 1 then 'running' else
        case when r.ok then 'completed' when r.retry and t.attempt <= t.max_retries
             then 'waiting' else 'failed' end end,
    attempt = t.attempt + case when r.step = 2 and not r.ok and r.retry
        and t.attempt <= t.max_retries then 1 else 0 end,
    event_seq = t.event_seq
        + case r.old_state when 'queued' then r.step + 1 when 'dispatched' then r.step else 1 end,
    arm_id = case when r.step = 2 and not r.ok and r.retry and t.attempt <= t.max_retries
        then null else r.arm_id end,
    instance_id = coalesce(r.instance_id, t.instance_id),
    dispatch_seq = case when r.step < 2 then coalesce(nullif(r.dispatch_seq, 0), t.dispatch_seq)
        end,
    lease_until = case r.step when 0 then now() + make_interval(secs => %b)
        when 1 then now() + make_interval(secs => %b) end,
    started_at = coalesce(r.started_at, t.started_at),
    not_before = case when r.step = 2 then now() + make_interval(secs => r.delay_s) end,
    error = case when r.step = 2 then r.error::json end,
    terminal_at = case when r.step = 2 and not (not r.ok and r.retry
        and t.attempt <= t.max_retries) then now() end,
    updated_at = now()
from r where t.id = r.id
returning t.id, t.tenant, r.attempt, r.old_state, t.state, r.old_seq + 1, t.event_seq,
    t.traceparent, t.goal, now(), r.arm_id, t.instance_id, t.not_before, null,
    coalesce((select true from ledger.budget b where b.task_id = t.id), false)
"""
# For who has locked others before, and so must not wait.
_MOVE_NOW: Final = _MOVE.replace("for update", "for update nowait")
_ATTEMPTS: Final = """
insert into ledger.attempt as a (task_id, attempt, arm_id, instance_id, placed_at, started_at,
    ended_at, outcome, reason, decision, tokens_used, cost_microdollars, llm_calls)
select task_id, attempt, arm_id, instance_id, placed_at, started_at,
    case when outcome is not null then now() end, outcome, reason, decision::json, tokens, cost,
    calls
from unnest(%b::text[], %b::int[], %b::text[], %b::text[], %b::timestamptz[],
    %b::timestamptz[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::bigint[],
    %b::bigint[])
as r(task_id, attempt, arm_id, instance_id, placed_at, started_at, outcome, reason, decision,
    tokens, cost, calls)
on conflict (task_id, attempt) do update set
    instance_id = coalesce(excluded.instance_id, a.instance_id),
    placed_at = coalesce(a.placed_at, excluded.placed_at),
    started_at = coalesce(excluded.started_at, a.started_at),
    ended_at = coalesce(a.ended_at, excluded.ended_at),
    outcome = coalesce(a.outcome, excluded.outcome),
    reason = coalesce(a.reason, excluded.reason),
    decision = coalesce(a.decision, excluded.decision),
    tokens_used = greatest(a.tokens_used, excluded.tokens_used),
    cost_microdollars = greatest(a.cost_microdollars, excluded.cost_microdollars),
    llm_calls = greatest(a.llm_calls, excluded.llm_calls)
"""
_RESULT_COLUMNS: Final = (Texts, Int4s, Texts)
_RESULTS: Final = """
insert into ledger.result (task_id, attempt, body, sha256)
select id, attempt, body::json, sha256(convert_to(body, 'UTF8'))
from unnest(%b::text[], %b::int[], %b::text[]) as r(id, attempt, body)
on conflict (task_id) do nothing
"""
_LATE: Final = """
with late as (
    insert into ledger.late_result (task_id, attempt, body)
    select id, attempt, body::json from unnest(%b::text[], %b::int[], %b::text[])
        as r(id, attempt, body)
    on conflict do nothing returning task_id, attempt
)
update ledger.task t set event_seq = t.event_seq + 1 from late where t.id = late.task_id
returning t.id, t.tenant, late.attempt, t.state, t.state, t.event_seq, t.event_seq,
    t.traceparent, t.goal, now()
"""
_STRAYS: Final = """
select r.id, r.attempt, t.state, t.attempt, a.outcome, a.ended_at,
    coalesce(a.arm_id, case when t.attempt = r.attempt then t.arm_id end),
    t.cancelling_since is not null and t.attempt = r.attempt
from unnest(%b::text[], %b::int[]) as r(id, attempt)
join ledger.task t on t.id = r.id
left join ledger.attempt a on a.task_id = r.id and a.attempt = r.attempt
"""
_PROGRESS: Final = """
update ledger.task t set event_seq = t.event_seq + 1
from unnest(%b::text[], %b::int[]) as r(id, attempt)
where t.id = r.id and t.attempt = r.attempt and t.state in ('dispatched', 'running')
returning t.id, t.tenant, t.attempt, t.state, t.state, t.event_seq, t.event_seq, t.traceparent,
    t.goal, now()
"""


class _Contended(Exception):
    """Somebody else holds a row that we need and may not wait for."""


class PostgresAttempts:
    """Writes what arms and scheduler report; leases are given in seconds."""

    def __init__(
        self, pool: Pool, relatives: Relatives, *, dispatch_lease_s: float, run_lease_s: float
    ) -> None:
        self._pool = pool
        self._relatives = relatives
        self._dispatch_lease_s = dispatch_lease_s
        self._run_lease_s = run_lease_s

    async def record(
        self, news: Sequence[AttemptNews], delays_s: Sequence[float], announce: Announce
    ) -> tuple[list[Moved], list[Stray], Entry | None]:
        """Write news in one transaction; recording the same news again changes nothing.

        `delays_s` says for each item how long a retry would wait, below 0 that there is none.
        Gives the transitions, the news that found no task in a fitting state, the outbox row.
        """
        completed = self._relatives.remembered.completed(news)
        if completed and self._relatives.are_unmoved_by(completed):
            entry = await finish_and_tell(self._pool, news, announce(completed))
            if entry is not None:
                return completed, [], entry
        try:
            return await self._record(news, delays_s, announce, short=True)
        except (UniqueViolation, _Contended):
            # Of some attempt there was something before its end, calls of a model perhaps; or
            # somebody else writes of a task, for whom we may not wait while he may for us.
            return await self._record(news, delays_s, announce, short=False)

    async def _record(
        self,
        news: Sequence[AttemptNews],
        delays_s: Sequence[float],
        announce: Announce,
        *,
        short: bool,
    ) -> tuple[list[Moved], list[Stray], Entry | None]:
        async with transaction(self._pool) as connection:
            finished = await finish(connection, [n for n in news if short and is_short(n)])
            if len(finished) == len(news) and self._relatives.are_unmoved_by(finished):
                return finished, [], await _told(connection, announce(finished))
            over = {(m.task_id, m.attempt) for m in finished}
            unbudgeted = {(m.task_id, m.attempt) for m in finished if not m.budgeted}
            rest = [n for n in news if n.key not in over] if over else news
            delays = {n.key: delay for n, delay in zip(news, delays_s, strict=True)} if rest else {}
            moved = await self._move(connection, rest, delays, wait=not finished)
            by_task = {(m.task_id, m.attempt) for m in moved}
            strays = await self._strays(connection, [n for n in rest if n.key not in by_task])
            stopped = await stop_by_results(connection, strays, rest)
            await self._write_attempts(connection, rest, by_task, strays)
            late = await self._write_late(connection, strays, rest)
            progress = await self._progress(connection, rest)
            timed = [n for n in news if n.key not in unbudgeted]
            settled = await self._relatives.settle_and_book(
                connection, [*moved, *stopped, *finished], times_of(timed, by_task | over, strays)
            )
            ended = [m for m in settled.moved[: len(moved)] if m.new.is_terminal]
            await self._write_results(connection, ended, rest)
            messages = announce([*settled.moved, *late, *progress]) + settled.messages
            entry = await _told(connection, messages)
        return settled.moved, strays, entry

    async def _move(
        self,
        connection: Connection,
        news: Sequence[AttemptNews],
        delays_s: Mapping[Key, float],
        *,
        wait: bool,
    ) -> list[Moved]:
        if not news:
            return []
        rows = [move_row(item, delays_s[item.key]) for item in news]
        parameters = [
            *packed(MOVE_COLUMNS, rows),
            [item.task_id for item in news],
            ATTEMPTED,
            self._dispatch_lease_s,
            self._run_lease_s,
        ]
        try:
            cursor = await connection.execute(_MOVE if wait else _MOVE_NOW, parameters)
        except LockNotAvailable as error:
            raise _Contended from error
        return [moved_row(row) for row in await cursor.fetchall()]

    async def _strays(self, connection: Connection, news: list[AttemptNews]) -> list[Stray]:
        if not news:
            return []
        cursor = await connection.execute(
            _STRAYS, [[n.task_id for n in news], [n.attempt for n in news]]
        )
        return [
            Stray(task_id, attempt, TaskState(state), *rest)
            for task_id, attempt, state, *rest in await cursor.fetchall()
        ]

    async def _write_attempts(
        self,
        connection: Connection,
        news: Sequence[AttemptNews],
        moved: set[tuple[str, int]],
        strays: list[Stray],
    ) -> None:
        # A stray may still complete its attempt's history, but not another arm's, and never
        # that of an unknown task.
        known = {(stray.task_id, stray.attempt): stray for stray in strays}
        rows = [
            attempt_row(item)
            for item in news
            if (key := (item.task_id, item.attempt)) in moved
            or (key in known and not known[key].is_foreign_to(item.arm_id))
        ]
        if rows:
            await connection.execute(_ATTEMPTS, packed(ATTEMPT_COLUMNS, rows))

    async def _write_results(
        self, connection: Connection, ended: list[Moved], news: Sequence[AttemptNews]
    ) -> None:
        if not ended:
            return
        bodies = {(n.task_id, n.attempt): n.body.decode() for n in news}
        rows = [(m.task_id, m.attempt, bodies[m.task_id, m.attempt]) for m in ended]
        await connection.execute(_RESULTS, packed(_RESULT_COLUMNS, rows))

    async def _write_late(
        self, connection: Connection, strays: list[Stray], news: Sequence[AttemptNews]
    ) -> list[Moved]:
        late = {(s.task_id, s.attempt): s for s in strays if not (s.is_duplicate or s.cancelling)}
        rows = [
            (n.task_id, n.attempt, n.body.decode())
            for n in news
            if n.step is Step.ENDED
            and (stray := late.get((n.task_id, n.attempt))) is not None
            and not stray.is_foreign_to(n.arm_id)
        ]
        if not rows:
            return []
        cursor = await connection.execute(_LATE, [list(c) for c in zip(*rows, strict=True)])
        return [moved_row(row) for row in await cursor.fetchall()]

    async def _progress(self, connection: Connection, news: Sequence[AttemptNews]) -> list[Moved]:
        rows = [n for n in news if n.progress is not None and n.result is None]
        if not rows:
            return []
        cursor = await connection.execute(
            _PROGRESS, [[n.task_id for n in rows], [n.attempt for n in rows]]
        )
        return [moved_row(row) for row in await cursor.fetchall()]


async def _told(connection: Connection, messages: list[Outgoing]) -> Entry | None:
    entry = await write_entry(connection, messages)
    before_commit()
    return entry
