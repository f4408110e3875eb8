"""The ledger on Postgres: its use cases in any order, with crashes, and what must always hold."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from octarm.common.bus.publisher import Outgoing
from octarm.common.clock import SystemClock
from octarm.common.testing import RecordingPublisher
from octarm.ledger.domain.changes import Known
from octarm.ledger.domain.news import AttemptNews
from octarm.ledger.storage.spending import PostgresSpending
from octarm.models import hot
from octarm.models.errors import OctarmError
from octarm.models.states import TERMINAL, TaskState
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted
from octarm.orchestrator.usecases.budgets import MeterSpend, SettleBudgets
from octarm.orchestrator.usecases.cancelling import CancelTasks, StopAttempts
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.record import RecordNews
from octarm.orchestrator.usecases.relay import Relay
from octarm.verify.bus import _facts
from octarm.verify.invariants import Mode
from octarm.verify.ledger import check_ledger, snapshot
from octarm.verify.report import Report
from tests.support.ledger import Ledger, a_failure, a_result, news, placed, started

T = TypeVar("T")
TENANT: Final = "default"
GRACE_S: Final = 3600.0
DAY_S: Final = 86_400
ROUNDS: Final = 12
_encode = msgspec.json.Encoder().encode


@dataclass
class Stage:
    """What all examples share: a loop and a migrated database."""

    runner: asyncio.Runner
    ledger: Ledger
    url: str


async def _forget(_: Any) -> None:
    """Nobody runs anything here, so nothing can be revoked."""


async def _nothing_back(_: Any) -> set[Any]:
    """No run command can be taken back."""
    return set()


class LedgerMachine(RuleBasedStateMachine):
    """Submit, repeat, assign, start, expire, end, spend, cancel, crash, in any order."""

    stage: ClassVar[Stage]
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, str] = {}
        self.seen: dict[str, tuple[str, int, int]] = {}
        self.calls = 0
        self.bus = RecordingPublisher()
        self._run(self._empty())
        self._start()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.stage.runner.run(work)

    async def _empty(self) -> None:
        rows = await self.stage.ledger.execute(
            "select tablename from pg_tables where schemaname = 'ledger'"
        )
        for (name,) in rows:
            if not name.startswith("alembic"):
                await self.stage.ledger.execute(f"delete from ledger.{name}")

    def _start(self) -> None:
        """Begin with an empty memory, as a process does."""
        it = self.stage.ledger
        self._run(self._make(it))

    async def _make(self, it: Ledger) -> None:
        self.relay = Relay(self.bus, it.outbox)
        spending = PostgresSpending(it.pool)
        self.accept = AcceptTasks(it.intake, self.relay, SystemClock(), 1)
        self.record = RecordNews(it.attempts, self.relay, _forget, chance=lambda: 0.5)
        self.stop = StopAttempts(
            it.cancelling, self.relay, _nothing_back, lambda: True, clock=SystemClock()
        )
        self.cancel_tasks = CancelTasks(it.cancelling, self.relay, self.stop)
        self.meter = MeterSpend(spending)
        settle = SettleBudgets(spending)
        self.reconcile = Reconcile(it.endings, self.relay, _forget, 1, settle_budgets=settle)

    # --- what clients do

    @rule(
        target=tasks,
        key=st.integers(0, 9),
        goal=st.sampled_from(["one", "one", "one", "other"]),
        tokens=st.none() | st.sampled_from([10, 100]),
        parent=st.none() | tasks,
        need=st.none() | tasks,
    )
    def submit(
        self, key: int, goal: str, tokens: int | None, parent: str | None, need: str | None
    ) -> str:
        """Submit a task, new or known, with or without budget, parent and dependency."""
        body: dict[str, Any] = {"goal": goal, "idempotency_key": f"k-{key}"}
        body["budget"] = {"max_retries": 1} | ({"max_tokens": tokens} if tokens else {})
        if parent:
            body["parent_task_id"] = parent
        if need and need != parent:
            body["depends_on"] = [need]
        item = hot.SubmitTask(msgspec.Raw(_encode(body)))
        (answer,) = self._run(self.accept([Submitted(TENANT, item)]))
        if not isinstance(answer, Known):
            assert isinstance(answer, OctarmError)
            return self.keys.get(f"k-{key}", "")
        known = self.keys.setdefault(f"k-{key}", answer.task_id)
        assert known == answer.task_id, "one key, two tasks"
        return known

    @rule(task=tasks)
    def cancel(self, task: str) -> None:
        """Cancel it, whatever it does."""
        self._run(self.cancel_tasks(task, TENANT, "enough"))

    # --- what scheduler and arms report

    def _report(self, task: str, make: Any, *, back: int = 0) -> None:
        state = self.seen.get(task)
        if state is not None and state[1] - back >= 1:
            item: AttemptNews = make(task, state[1] - back)
            self._run(self.record([item]))

    @rule(task=tasks)
    def assign(self, task: str) -> None:
        """Its attempt is placed."""
        self._report(task, placed)

    @rule(task=tasks)
    def start(self, task: str) -> None:
        """Its attempt has started."""
        self._report(task, started)

    @rule(task=tasks, arm=st.sampled_from(["one", "one", "two"]))
    def complete(self, task: str, arm: str) -> None:
        """A result comes, perhaps of an arm that it was never placed on."""
        self._report(task, lambda *key: news(a_result(*key, arm_id=arm))[0])

    @rule(task=tasks, retryable=st.booleans())
    def fail(self, task: str, retryable: bool) -> None:
        """A failure comes."""
        self._report(task, lambda *key: news(a_failure(*key, retryable=retryable))[0])

    @rule(task=tasks)
    def come_late(self, task: str) -> None:
        """A result of the attempt before comes."""
        self._report(task, lambda *key: news(a_result(*key))[0], back=1)

    @rule(task=tasks, tokens=st.sampled_from([1, 40]), again=st.booleans())
    def spend(self, task: str, tokens: int, again: bool) -> None:
        """A call is metered, or told once more."""
        state = self.seen.get(task)
        if state is None:
            return
        self.calls += not again
        entry = hot.CallSpend(task, state[1], self.calls, tokens=tokens, llm_calls=1)
        self._run(self.meter([hot.SpendReported("one", "i-1", [entry])]))

    # --- what time and fate do

    @rule(task=tasks)
    def expire(self, task: str) -> None:
        """Its lease runs out, and the reconciler looks."""
        self._run(self._age("lease_until", task))
        self._run(self.reconcile.once())
        self._run(self.stop())

    @rule()
    def pass_a_day(self) -> None:
        """Whatever waits for its time may go on."""
        self._run(self._age("not_before"))
        self._run(self.reconcile.once())

    async def _age(self, column: str, task: str | None = None) -> None:
        await self.stage.ledger.execute(
            f"update ledger.task set {column} = {column} - make_interval(secs => {DAY_S})"
            f" where {column} is not null and (%s::text is null or id = %s)",
            task,
            task,
        )

    @rule()
    def crash(self) -> None:
        """The orchestrator dies with everything that it had in memory, and begins anew."""
        self._start()

    @rule()
    def sweep(self) -> None:
        """What a dead process left in the outbox is told."""
        self._run(self._swept())

    async def _swept(self) -> None:
        await self.stage.ledger.execute(
            "update ledger.outbox set created_at = created_at - make_interval(secs => 60)"
        )
        await self.relay.sweep()

    # --- what must hold

    @invariant()
    def the_ledger_is_in_order(self) -> None:
        """The invariants checker finds nothing, and what has ended stays as it is."""
        self._run(self._check(Mode.LIVE))
        rows = self._run(
            self.stage.ledger.execute("select id, state, attempt, event_seq from ledger.task")
        )
        ended = {state.value for state in TERMINAL}
        for task, state, attempt, seq in rows:
            before = self.seen.get(task, (state, 1, 0))
            assert attempt >= before[1], f"{task} went back to attempt {attempt}"
            assert seq >= before[2], f"{task} went back to event {seq}"
            assert before[0] not in ended or before[0] == state, f"{task} left {before[0]}"
            self.seen[task] = (state, attempt, seq)

    async def _check(self, mode: Mode) -> None:
        async with snapshot(self.stage.url) as connection:
            report = Report(mode)
            await check_ledger(connection, report, grace_s=GRACE_S, first=3)
        assert report.ok, report.violations

    def teardown(self) -> None:
        """Bring all to an end: exactly one for each, all told, nothing reserved."""
        self._run(self._finish())

    async def _finish(self) -> None:
        for task, (state, *_) in self.seen.items():
            if TaskState(state) not in TERMINAL:
                await self.cancel_tasks(task, TENANT, "the end")
        await self._age("lease_until")
        for _ in range(ROUNDS):
            await self.stop()
            await self.reconcile.once()
            await self._swept()
        await self._check(Mode.QUIESCENT)
        rows = await self.stage.ledger.execute("select id, event_seq from ledger.task")
        told = _told(self.bus.published)
        for task, seq in rows:
            assert sorted(told.get(task, [])) == list(range(1, seq + 1)), f"events of {task}"


def _told(messages: list[Outgoing]) -> dict[str, set[int]]:
    """Give the numbers of the events that were published, by task."""
    found: dict[str, set[int]] = {}
    for message in messages:
        seen: Any = _Message(message.subject, message.payload)
        for fact in _facts(seen):
            found.setdefault(fact.task_id, set()).add(fact.seq)
    return found


@dataclass
class _Message:
    subject: str
    data: bytes
