"""The tables of the simulated ledger, and what each statement of the real one does to them.

`tests/contract/test_sim_ledger.py` holds every method to Postgres. A transaction is one call:
read committed with rows locked in order has no outcome that some order of calls does not have.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from octarm.common.bus.publisher import Outgoing
from octarm.ledger.domain.changes import AcceptAnswer, Entry, Mark, Moved, Name, Stray, Woken
from octarm.ledger.domain.lifecycle import ATTEMPTED
from octarm.ledger.domain.messages import pack, unpack
from octarm.ledger.domain.news import AttemptNews, Step
from octarm.ledger.domain.plans import Plan, Relative
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.storage import endings as sql_endings
from octarm.ledger.storage import intake as sql_intake
from octarm.ledger.storage import known as sql_known
from octarm.ledger.storage import news_rows, task_rows
from octarm.ledger.storage import plans as sql_plans
from octarm.ledger.storage.outbox import PAGE
from octarm.models.states import TERMINAL, TaskState
from tests.simulation import relatives
from tests.simulation.rows import AttemptRow, TaskRow

S: Final = TaskState
WORKING: Final = (S.DISPATCHED, S.RUNNING)


class Tables:
    """The ledger's rows, changed by one transaction at a time."""

    def __init__(
        self,
        now: Callable[[], datetime],
        *,
        dispatch_lease_s: float,
        run_lease_s: float,
        forgotten_after_s: float,
    ) -> None:
        self.now = now
        self._forgotten_after = timedelta(seconds=forgotten_after_s)
        self.leases_s = {0: dispatch_lease_s, 1: run_lease_s}
        self.tasks: dict[str, TaskRow] = {}
        self.open: dict[str, TaskRow] = {}
        self.attempts: dict[tuple[str, int], AttemptRow] = {}
        self.results: dict[str, tuple[int, bytes]] = {}
        self.late: dict[tuple[str, int], bytes] = {}
        self.outbox: dict[int, tuple[bytes, datetime]] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._last_entry = 0

    def write_entry(self, messages: list[Outgoing]) -> Entry | None:
        """Write an outbox row; None when there is nothing to tell."""
        if not messages:
            return None
        self._last_entry += 1
        self.outbox[self._last_entry] = (pack(messages), self.now())
        return Entry(self._last_entry, messages)

    # --- Intake

    def accept(
        self, tasks: Sequence[NewTask], announce: Callable[[list[NewTask]], list[Outgoing]]
    ) -> tuple[list[AcceptAnswer], Entry | None]:
        """Write fresh tasks."""
        plan = self._plan(tasks)
        refused = dict(plan.refused)
        fresh = [task for task in tasks if task.task_id not in refused]
        related = {t.task_id for t in fresh if t.parent_id or t.depends_on}
        if related:
            fresh = sql_plans.without_waiting(fresh, plan)
        created = {task.task_id for task in fresh if self._insert(task, plan.places)}
        new = sql_intake._once(fresh, created)
        messages = announce(new)
        late = [self.tasks[t.task_id] for t in new if t.blocked and plan.any_ended(t)]
        messages += relatives.look_again(self, late)
        entry = self.write_entry(messages)
        known = self._known()
        states = {task.task_id: task_rows.state_of(task) for task in new}
        return [sql_intake._answer(task, states, refused, known) for task in tasks], entry

    def _known(self) -> list[tuple[Any, ...]]:
        return [
            (it.task.task_id, it.task.tenant, it.task.idem_key, it.task.req_hash, it.state.value)
            for it in self.tasks.values()
        ]

    def held(self, names: Sequence[Name]) -> set[Mark]:
        """Find the keys and ids that are there."""
        keys: set[Mark] = {(name.tenant, name.idem_key) for name in names if name.idem_key}
        ids: set[Mark] = {name.task_id for name in names if name.task_id}
        return (keys & self._keys.keys()) | (ids & self.tasks.keys())

    def look_up(self, tasks: list[NewTask]) -> list[AcceptAnswer]:
        """Answer the tasks that are there already."""
        known = self._known()
        return [sql_known.repetition(task, known) for task in tasks]

    def _insert(self, task: NewTask, places: dict[str, Any]) -> bool:
        key = (task.tenant, task.idem_key) if task.idem_key is not None else None
        if task.task_id in self.tasks or (key is not None and key in self._keys):
            return False
        waits = task.waits
        state, seq = (S.WAITING, 1) if waits else (S.QUEUED, 2)
        row = TaskRow(task, state, seq, self.now(), root_id=task.task_id)
        row.not_before, row.blocked = task.not_before, task.blocked
        if (place := places.get(task.task_id)) is not None:
            row.root_id, row.depth = place.root_id, place.depth
        self.tasks[task.task_id] = self.open[task.task_id] = row
        if key is not None:
            self._keys[key] = task.task_id
        return True

    def _plan(self, tasks: Sequence[NewTask]) -> Plan:
        named = {name for task in tasks for name in (task.parent_id, *task.depends_on) if name}
        plan = Plan(self._relative(name) for name in sorted(named) if name in self.tasks)
        if named:
            plan.place(tasks)
        return plan

    def _relative(self, name: str) -> Relative:
        row = self.tasks[name]
        tree = [it for it in self.tasks.values() if it.root_id == row.root_id and it.depth]
        return Relative(
            name,
            row.task.tenant,
            row.root_id,
            row.depth,
            row.state,
            row.cancelling_since is not None,
            sum(1 for it in tree if it.task.parent_id == name),
            len(tree),
            sum(1 for it in self.tasks.values() if name in it.task.depends_on),
        )

    # --- Attempts

    def record(
        self,
        news: Sequence[AttemptNews],
        delays_s: Sequence[float],
        announce: Callable[[list[Moved]], list[Outgoing]],
    ) -> tuple[list[Moved], list[Stray], Entry | None]:
        """Write news of attempts."""
        moved = [
            change
            for item, delay_s in zip(news, delays_s, strict=True)
            if (change := self._move(item, delay_s)) is not None
        ]
        keys = {(m.task_id, m.attempt) for m in moved}
        strays = [
            stray
            for item in news
            if (item.task_id, item.attempt) not in keys and (stray := self._stray(item))
        ]
        stopped = relatives.stop_by_results(self, strays, news)
        known = {(s.task_id, s.attempt): s for s in strays}
        for item in news:
            stray = known.get((item.task_id, item.attempt))
            if item.key in keys or (stray and not stray.is_foreign_to(item.arm_id)):
                self._write_attempt(item)
        bodies = {(item.task_id, item.attempt): item.body for item in news}
        for change in moved:
            if change.new in TERMINAL:
                body = bodies[change.task_id, change.attempt]
                self.results.setdefault(change.task_id, (change.attempt, body))
        late = self._write_late(strays, news)
        progress = [m for item in news if (m := self._progress(item)) is not None]
        all_moved = [*moved, *stopped]
        messages = announce([*all_moved, *late, *progress]) + relatives.settle(self, all_moved)
        return all_moved, strays, self.write_entry(messages)

    def may_move(self, row: TaskRow, item: AttemptNews) -> bool:
        """Tell whether the news still counts: of this attempt, arm and state."""
        if row.attempt != item.attempt or row.arm_id not in (None, item.arm_id):
            return False
        if row.cancelling_since is not None:
            return False
        sources = {
            Step.PLACED: ["queued"],
            Step.STARTED: ["queued", "dispatched"],
            Step.ENDED: ATTEMPTED,
        }
        return row.state.value in sources[item.step]

    def _move(self, item: AttemptNews, delay_s: float) -> Moved | None:
        row = self.tasks.get(item.task_id)
        if row is None or not self.may_move(row, item):
            return None
        fields = news_rows.move_row(item, delay_s)
        step, ok, retry = fields[4:7]
        ended = step == Step.ENDED
        again = ended and not ok and retry and row.attempt <= row.task.max_retries
        old, first_seq, now, attempt = row.state, row.event_seq + 1, self.now(), row.attempt
        row.event_seq += {S.QUEUED: step + 1, S.DISPATCHED: step}.get(old, 1)
        row.attempt += again
        row.arm_id = None if again else item.arm_id
        row.instance_id = item.instance_id or row.instance_id
        row.dispatch_seq = None if ended else fields[8] or row.dispatch_seq
        row.lease_until = None if ended else now + timedelta(seconds=self.leases_s[step])
        row.not_before = now + timedelta(seconds=delay_s) if ended else None
        row.error = fields[10] if ended else None
        row.updated_at = now
        if not ended:
            row.state = S.RUNNING if step else S.DISPATCHED
        elif again:
            row.state = S.WAITING
        else:
            self.end(row, S.COMPLETED if ok else S.FAILED)
        return self.moved(row, old, attempt, first_seq, arm_id=item.arm_id)

    def end(self, row: TaskRow, state: TaskState) -> None:
        """Put a task into a terminal state."""
        row.state = state
        row.terminal_at = self.now()
        del self.open[row.task.task_id]

    def moved(
        self, row: TaskRow, old: TaskState, attempt: int, first_seq: int, *, arm_id: str | None
    ) -> Moved:
        """Say how a row has moved."""
        task = row.task
        return Moved(
            task.task_id,
            task.tenant,
            attempt,
            old,
            row.state,
            first_seq,
            row.event_seq,
            task.traceparent,
            task.goal,
            self.now(),
            arm_id,
            row.instance_id,
            row.not_before,
        )

    def _stray(self, item: AttemptNews) -> Stray | None:
        row = self.tasks.get(item.task_id)
        if row is None:
            return None
        attempt = self.attempts.get((item.task_id, item.attempt))
        outcome, ended_at = (attempt.outcome, attempt.ended_at) if attempt else (None, None)
        arm_id = attempt.arm_id if attempt else None
        if arm_id is None and row.attempt == item.attempt:
            arm_id = row.arm_id
        cancelling = row.cancelling_since is not None and row.attempt == item.attempt
        return Stray(
            item.task_id,
            item.attempt,
            row.state,
            row.attempt,
            outcome,
            ended_at,
            arm_id,
            cancelling,
        )

    def prove(self, change: Moved) -> None:
        """Close the attempt of a task that has stopped."""
        row = self.attempts.setdefault((change.task_id, change.attempt), AttemptRow(change.arm_id))
        row.ended_at = row.ended_at or self.now()
        row.outcome = row.outcome or "cancelled"
        row.reason = row.reason or "because"

    def _write_attempt(self, item: AttemptNews) -> None:
        fields = news_rows.attempt_row(item)
        placed_at, started_at, outcome, reason = fields[4:8]
        ended_at = self.now() if outcome is not None else None
        row = self.attempts.setdefault((item.task_id, item.attempt), AttemptRow(item.arm_id))
        row.instance_id = item.instance_id or row.instance_id
        row.placed_at = row.placed_at or placed_at
        row.started_at = started_at or row.started_at
        row.ended_at = row.ended_at or ended_at
        row.outcome = row.outcome or outcome
        row.reason = row.reason or reason

    def _write_late(self, strays: list[Stray], news: Sequence[AttemptNews]) -> list[Moved]:
        late = {(s.task_id, s.attempt): s for s in strays if not (s.is_duplicate or s.cancelling)}
        told: dict[str, Moved] = {}
        for item in news:
            key = (item.task_id, item.attempt)
            if item.step is not Step.ENDED or key not in late or key in self.late:
                continue
            if not late[key].is_foreign_to(item.arm_id):
                self.late[key] = item.body
                if item.task_id not in told:
                    told[item.task_id] = self._same(self.tasks[item.task_id], item.attempt)
        return list(told.values())

    def _progress(self, item: AttemptNews) -> Moved | None:
        row = self.tasks.get(item.task_id)
        if row is None or item.progress is None or item.result is not None:
            return None
        if row.attempt != item.attempt or row.state not in WORKING:
            return None
        return self._same(row, row.attempt)

    def _same(self, row: TaskRow, attempt: int) -> Moved:
        row.event_seq += 1
        moved = self.moved(row, row.state, attempt, row.event_seq, arm_id=None)
        return replace(moved, instance_id=None, not_before=None)

    # --- Endings

    def finish(
        self,
        rows: Iterable[TaskRow],
        state: TaskState,
        *,
        reason: str,
        error: str,
        announce: Callable[[list[Moved]], list[Outgoing]],
    ) -> tuple[list[Moved], Entry | None]:
        """End tasks that no arm ends."""
        moved = []
        for row in _by_id(rows):
            old, dispatch_seq = row.state, row.dispatch_seq
            row.blocked = False
            row.event_seq += 1
            row.lease_until = row.dispatch_seq = None
            row.error, row.updated_at = error, self.now()
            self.end(row, state)
            moved.append(self._given_up(row, old, row.attempt, (row.arm_id, dispatch_seq)))
        return self._close(moved, state.value, reason, announce)

    def lose(
        self,
        rows: Iterable[TaskRow],
        outcome: str,
        *,
        reason: str,
        error: str,
        announce: Callable[[list[Moved]], list[Outgoing]],
    ) -> tuple[list[Moved], Entry | None]:
        """Give up attempts: the next one, or the end."""
        moved = []
        for row in _by_id(rows):
            old, attempt, was_at = row.state, row.attempt, (row.arm_id, row.dispatch_seq)
            row.event_seq += 1
            row.not_before = row.updated_at = self.now()
            row.lease_until = row.arm_id = row.dispatch_seq = None
            row.error = error
            if attempt <= row.task.max_retries:
                row.state = S.WAITING
                row.attempt += 1
            else:
                self.end(row, S.FAILED)
            moved.append(self._given_up(row, old, attempt, was_at))
        return self._close(moved, outcome, reason, announce)

    def _given_up(
        self, row: TaskRow, old: TaskState, attempt: int, was_at: tuple[str | None, int | None]
    ) -> Moved:
        moved = self.moved(row, old, attempt, row.event_seq, arm_id=was_at[0])
        return replace(moved, dispatch_seq=was_at[1])

    def _close(
        self,
        moved: list[Moved],
        outcome: str,
        reason: str,
        announce: Callable[[list[Moved]], list[Outgoing]],
    ) -> tuple[list[Moved], Entry | None]:
        if not moved:
            return [], None
        for change in moved:
            row = self.attempts.get((change.task_id, change.attempt))
            if change.arm_id is not None and row is not None and row.outcome is None:
                row.ended_at, row.outcome, row.reason = self.now(), outcome, reason
        return moved, self.write_entry(announce(moved) + relatives.settle(self, moved))

    def silent(self) -> list[TaskRow]:
        """Find attempts whose lease has run out."""
        now = self.now()
        return [it for it in self._held() if it.lease_until and it.lease_until < now]

    def hanging(self) -> list[TaskRow]:
        """Find attempts that run too long."""
        return [it for it in self._held() if it.lease_until and self._hangs(it)]

    def _held(self) -> list[TaskRow]:
        return [it for it in self.open.values() if it.cancelling_since is None]

    def _hangs(self, row: TaskRow) -> bool:
        grace_s = {
            S.RUNNING: sql_endings.STEP_GRACE_S,
            S.DISPATCHED: sql_endings.START_GRACE_S,
        }.get(row.state)
        if grace_s is None:
            return False
        return row.updated_at + timedelta(seconds=row.task.timeout_s + grace_s) < self.now()

    def overdue(self) -> list[TaskRow]:
        """Find tasks whose deadline has passed."""
        now = self.now()
        return [it for it in self._held() if it.task.deadline and it.task.deadline < now]

    def blocked(self) -> list[TaskRow]:
        """Find tasks that wait for others."""
        return [row for row in self.open.values() if row.blocked and row.state is S.WAITING]

    def sweep_blocked(self) -> Entry | None:
        """End or queue what waits for others and was missed."""
        return self.write_entry(relatives.look_again(self, self.blocked()))

    def wake(
        self, announce: Callable[[list[Woken]], list[Outgoing]]
    ) -> tuple[list[Woken], Entry | None]:
        """Queue waiting tasks that may run now."""
        now = self.now()
        rows = [
            row
            for row in self.open.values()
            if row.state is S.WAITING
            and row.not_before is not None
            and row.not_before <= now
            and not row.blocked
        ]
        woken = [self.queue(row) for row in _by_id(rows)]
        return woken, self.write_entry(announce(woken))

    def queue(self, row: TaskRow) -> Woken:
        """Let a waiting task be placed."""
        row.state = S.QUEUED
        row.event_seq += 1
        row.updated_at = self.now()
        return self._woken(row, S.WAITING, self.now())

    def remind(
        self, announce: Callable[[list[Woken]], list[Outgoing]]
    ) -> tuple[list[Woken], Entry | None]:
        """Tell again of tasks that have been queued for long."""
        before = self.now() - self._forgotten_after
        woken = []
        for row in _by_id(self.open.values()):
            if row.state is S.QUEUED and row.updated_at < before:
                row.updated_at = self.now()
                woken.append(self._woken(row, S.QUEUED, row.not_before or row.task.created_at))
        return woken, self.write_entry(announce(woken))

    def _woken(self, row: TaskRow, old: TaskState, at: datetime) -> Woken:
        task = row.task
        moved = Moved(
            task.task_id,
            task.tenant,
            row.attempt,
            old,
            row.state,
            row.event_seq,
            row.event_seq,
            task.traceparent,
            task.goal,
            at,
        )
        return Woken(moved, task.tier, task.priority, task.deadline, task.contract)

    def renew(self, running: Sequence[tuple[str, int, str, float]]) -> None:
        """Extend leases."""
        for task_id, attempt, arm_id, lease_s in running:
            row = self.tasks.get(task_id)
            if row is None or (row.attempt, row.arm_id) != (attempt, arm_id):
                continue
            if row.state in WORKING:
                row.lease_until = row.lease_until and self.now() + timedelta(seconds=lease_s)

    def superseded(self, running: Sequence[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
        """Tell what the ledger has gone on without."""
        rows = [(one, self.tasks.get(one[0])) for one in running]
        return [one for one, row in rows if row and (row.attempt > one[1] or row.state.is_terminal)]

    # --- Outbox

    def delete(self, seqs: Sequence[int]) -> None:
        """Forget rows of the outbox."""
        for seq in seqs:
            self.outbox.pop(seq, None)

    def older_than(self, seconds: float, without: Collection[int]) -> list[Entry]:
        """Give rows that were forgotten about."""
        before = self.now() - timedelta(seconds=seconds)
        old = sorted(
            seq for seq, (_, at) in self.outbox.items() if at < before and seq not in without
        )
        return [Entry(seq, unpack(self.outbox[seq][0])) for seq in old[:PAGE]]


def _by_id(rows: Iterable[TaskRow]) -> list[TaskRow]:
    return sorted(rows, key=lambda row: row.task.task_id)[: sql_endings.LIMIT]
