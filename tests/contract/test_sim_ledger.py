"""The simulated ledger answers as Postgres does: the same calls, the same answers and rows."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from octarm.ledger.domain.changes import Known, Stopped, Unwanted
from octarm.ledger.domain.news import AttemptNews
from octarm.ledger.domain.tasks import NewTask
from octarm.ledger.storage import endings
from octarm.models import hot
from octarm.models.ids import typeid, uuid7
from tests.simulation import relatives
from tests.simulation.tables import Tables
from tests.support.ledger import Ledger, a_failure, a_ledger, a_new_task, a_result, news, placed
from tests.support.ledger import started as started_news

TASKS: Final = 4
LEASE_S: Final = 15.0
ERROR: Final = '{"title":"x","status":500,"code":"INTERNAL","category":"internal","detail":"x"}'
TOLD: Final[dict[str, Any]] = {"reason": "because", "error": ERROR, "announce": lambda _: []}
Call = tuple[str, tuple[Any, ...]]


def task_id(number: int) -> str:
    return typeid("tsk", uuid7(1_700_000_000_000 + number, 0))


CALLED_OFF: Final[dict[str, Any]] = {
    "error": ERROR.replace('"detail":"x"', '"detail":"because"'),
    "inherited": ERROR.replace('"detail":"x"', '"detail":"because"'),
    "announce": lambda _: [],
}


def proof(number: int, attempt: int, name: Any) -> Stopped:
    """A proof that an attempt has stopped."""
    return Stopped(task_id(number), attempt, name)


def unwanted(number: int, attempt: int) -> Unwanted:
    """An attempt that nobody is going to place."""
    return Unwanted(task_id(number), attempt, ERROR)


def task(number: int, variant: str, need: int | None) -> NewTask:
    """A task of that number; each variant is another body, and another policy."""
    depends_on = [task_id(need)] if need is not None and need != number else []
    policy = {"a": "fail", "b": "continue", "c": "skip"}[variant]
    made = a_new_task(
        task_id=task_id(number),
        goal=variant,
        idempotency_key=f"key-{number}",
        depends_on=depends_on,
        on_dependency_failure=policy,
        timeout_seconds=20,
        budget={"max_retries": 1},
    )
    return replace(made, deadline=None)


def reported(kind: str, number: int, attempt: int, arm_id: str) -> AttemptNews:
    """News of one kind about an attempt."""
    name = task_id(number)
    if kind == "placed":
        return placed(name, attempt, arm_id=arm_id)
    if kind == "started":
        return started_news(name, attempt, arm_id=arm_id)
    if kind == "progress":
        update = hot.AttemptUpdate(name, attempt, "progress", datetime.now(UTC), 0.5)
        return AttemptNews(name, attempt, arm_id, "i-1", progress=update)
    if kind == "done":
        return news(a_result(name, attempt, arm_id=arm_id))[0]
    return news(a_failure(name, attempt, arm_id=arm_id, retryable=kind == "failed"))[0]


numbers = st.integers(0, TASKS - 1)
kinds = st.sampled_from(["placed", "started", "progress", "done", "done", "failed", "broken"])
one_news = st.tuples(kinds, numbers, st.integers(1, 3), st.sampled_from(["one", "one", "two"]))
first = [("accept", (number, "a", None)) for number in range(TASKS - 1)]
calls = st.lists(
    st.one_of(
        st.tuples(
            st.just("accept"),
            st.tuples(numbers, st.sampled_from("aabc"), st.none() | numbers),
        ),
        st.tuples(st.just("record"), st.lists(one_news, min_size=1, max_size=3)),
        st.tuples(st.just("record"), st.lists(one_news, min_size=1, max_size=3)),
        st.tuples(st.just("cancel"), numbers),
        st.tuples(st.just("reject"), st.tuples(numbers, st.integers(1, 2))),
        st.tuples(
            st.just("stop"),
            st.tuples(
                numbers,
                st.integers(1, 2),
                st.sampled_from(["never_started", "stopped_by_arm", "lease_ended", "forced"]),
            ),
        ),
        st.tuples(st.just("renew"), st.tuples(numbers, st.integers(1, 3))),
        st.tuples(st.just("superseded"), st.tuples(numbers, st.integers(1, 3))),
        st.tuples(st.sampled_from(["silent", "hanging", "broken", "wake", "wake"]), st.none()),
        st.tuples(st.just("pass"), st.sampled_from([2, 16, 40])),
    ),
    min_size=4,
    max_size=14,
)


class Side(Protocol):
    """One ledger under comparison."""

    async def call(self, name: str, argument: Any) -> Any:
        """Make one call; give the answer without times."""
        ...

    async def rows(self) -> dict[str, Any]:
        """Give what is in it, without times."""
        ...


def unique(items: list[AttemptNews]) -> list[AttemptNews]:
    """Keep the first news of each task: a batch holds one of each attempt."""
    return list({item.task_id: item for item in reversed(items)}.values())


def moved(changes: list[Any]) -> list[Any]:
    """Transitions without their times."""
    return sorted(
        (m.task_id, m.attempt, m.old, m.new, m.first_seq, m.last_seq, m.arm_id, m.instance_id)
        for m in changes
    )


def summary(name: str, answer: Any) -> Any:
    """An answer without times and outbox numbers."""
    if name == "accept":
        ((known,), _) = answer
        if isinstance(known, Known):
            return known.task_id, known.state, known.created
        return known.code
    if name == "record":
        changes, strays, _ = answer
        told = [(s.task_id, s.attempt, s.state, s.current_attempt, s.outcome) for s in strays]
        return moved(changes), sorted(told)
    if name == "cancel":
        return answer[0]
    if name == "wake":
        return moved([woken.moved for woken in answer[0]])
    return None if answer is None else moved(answer[0])


@dataclass
class Real:
    """Postgres; time passes by moving its rows into the past."""

    ledger: Ledger

    async def call(self, name: str, argument: Any) -> Any:
        it = self.ledger
        match name:
            case "pass":
                await self._age(argument)
                return None
            case "accept":
                answer: Any = await it.intake.accept([task(*argument)], lambda _: [])
            case "record":
                items = unique([reported(*one) for one in argument])
                items.sort(key=lambda item: item.task_id)
                answer = await it.attempts.record(items, [1.0] * len(items), lambda _: [])
            case "cancel":
                answer = await it.cancelling.cancel(task_id(argument), "default", **CALLED_OFF)
            case "reject":
                answer = await it.rejecting.reject([unwanted(*argument)], lambda _: [])
            case "stop":
                answer = await it.cancelling.stop([proof(*argument)], lambda _: [])
            case "renew":
                await it.endings.renew([(task_id(argument[0]), argument[1], "one", LEASE_S)])
                return None
            case "superseded":
                return await it.endings.superseded([(task_id(argument[0]), argument[1], "one")])
            case "wake":
                answer = await it.endings.wake(lambda _: [])
            case "broken":
                await it.endings.sweep_blocked()
                return None
            case _:
                answer = await getattr(it.endings, f"lose_{name}")(**TOLD)
        return summary(name, answer)

    async def _age(self, seconds: int) -> None:
        await self.ledger.execute(
            "update ledger.task set lease_until = lease_until - make_interval(secs => %s),"
            " not_before = not_before - make_interval(secs => %s),"
            " updated_at = updated_at - make_interval(secs => %s)",
            seconds,
            seconds,
            seconds,
        )

    async def rows(self) -> dict[str, Any]:
        run = self.ledger.execute
        return {
            "task": await run(
                "select id, state, attempt, event_seq, arm_id, instance_id, dispatch_seq,"
                " lease_until is null, error is null, terminal_at is null,"
                " cancelling_since is null, proof"
                " from ledger.task order by id"
            ),
            "attempt": await run(
                "select task_id, attempt, arm_id, instance_id, placed_at is null,"
                " started_at is null, ended_at is null, outcome, reason"
                " from ledger.attempt order by 1, 2"
            ),
            "result": await run("select task_id, attempt from ledger.result order by 1"),
            "late": await run("select task_id, attempt from ledger.late_result order by 1, 2"),
        }

    async def empty(self) -> None:
        """Start over."""
        await self.ledger.execute(
            "truncate ledger.task, ledger.dependency, ledger.attempt, ledger.result,"
            " ledger.late_result, ledger.outbox, ledger.blocked"
        )


@dataclass
class Simulated:
    """The tables of the simulation, with a clock that is moved."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.tables = Tables(
            lambda: self.now,
            dispatch_lease_s=LEASE_S,
            run_lease_s=LEASE_S,
            forgotten_after_s=endings.FORGOTTEN_AFTER_S,
        )

    async def call(self, name: str, argument: Any) -> Any:
        # Between two statements of Postgres some time passes, too.
        self.now += timedelta(milliseconds=1)
        it = self.tables
        match name:
            case "pass":
                self.now += timedelta(seconds=argument)
                return None
            case "accept":
                answer: Any = it.accept([task(*argument)], lambda _: [])
            case "record":
                items = unique([reported(*one) for one in argument])
                items.sort(key=lambda item: item.task_id)
                answer = it.record(items, [1.0] * len(items), lambda _: [])
            case "cancel":
                answer = relatives.cancel(it, task_id(argument), "default", **CALLED_OFF)
            case "reject":
                answer = relatives.reject(it, [unwanted(*argument)], lambda _: [])
            case "stop":
                stopped = relatives.stop(it, [proof(*argument)])
                relatives.settle(it, stopped)
                answer = (stopped, None)
            case "renew":
                it.renew([(task_id(argument[0]), argument[1], "one", LEASE_S)])
                return None
            case "superseded":
                return it.superseded([(task_id(argument[0]), argument[1], "one")])
            case "wake":
                answer = it.wake(lambda _: [])
            case "broken":
                it.sweep_blocked()
                return None
            case "silent":
                answer = it.lose(it.silent(), "lost", **TOLD)
            case _:
                answer = it.lose(it.hanging(), "timed_out", **TOLD)
        return summary(name, answer)

    async def rows(self) -> dict[str, Any]:
        it = self.tables
        return {
            "task": [
                (
                    name,
                    row.state.value,
                    row.attempt,
                    row.event_seq,
                    row.arm_id,
                    row.instance_id,
                    row.dispatch_seq,
                    row.lease_until is None,
                    row.error is None,
                    row.terminal_at is None,
                    row.cancelling_since is None,
                    row.proof,
                )
                for name, row in sorted(it.tasks.items())
            ],
            "attempt": [
                (
                    *key,
                    row.arm_id,
                    row.instance_id,
                    row.placed_at is None,
                    row.started_at is None,
                    row.ended_at is None,
                    row.outcome,
                    row.reason,
                )
                for key, row in sorted(it.attempts.items())
            ],
            "result": sorted((name, attempt) for name, (attempt, _) in it.results.items()),
            "late": sorted(it.late),
        }


async def compare(real: Real, sequence: list[Call]) -> None:
    """Make the same calls on both; they must answer and end alike."""
    await real.empty()
    simulated = Simulated()
    for number, (name, argument) in enumerate(sequence):
        expected = await real.call(name, argument)
        assert await simulated.call(name, argument) == expected, f"call {number}: {name}"
    assert await simulated.rows() == await real.rows()


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_same_calls_same_answers(postgres_url: str) -> None:
    with asyncio.Runner() as runner:
        context = a_ledger(postgres_url, dispatch_lease_s=LEASE_S)
        real = Real(runner.run(context.__aenter__()))

        @settings(
            max_examples=100,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(calls)
        def explore(sequence: list[Call]) -> None:
            runner.run(compare(real, [*first, *sequence]))

        try:
            explore()
        finally:
            runner.run(context.__aexit__(None, None, None))
