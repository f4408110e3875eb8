"""Calling off whole subtrees on a real Postgres: at once, or with proof."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from octarm.common.testing import FakeClock
from octarm.ledger.domain.changes import Known
from octarm.models import hot
from octarm.models.errors import Conflict
from octarm.orchestrator.usecases.cancelling import CancelTasks, StopAttempts
from octarm.orchestrator.usecases.endings import Reconcile
from octarm.orchestrator.usecases.record import RecordNews, Revocation
from tests.support.ledger import (
    Ledger,
    a_failure,
    a_new_task,
    a_result,
    accept,
    events,
    news,
    placed,
    record,
    started,
    told,
)

pytestmark = pytest.mark.integration


class Arms(list[Revocation]):
    """Keeps what arms were told; `unread` are commands that none of them has read."""

    def __init__(self, *unread: str) -> None:
        self.unread = set(unread)

    async def __call__(self, items: Sequence[Revocation]) -> set[tuple[str, int]]:
        self.extend(items)
        return {(i.task_id, i.attempt) for i in items if i.task_id in self.unread}


class Desk:
    """Cancelling as the orchestrator wires it."""

    def __init__(self, ledger: Ledger, *unread: str, hears_beats: bool = True) -> None:
        self.arms, self.clock = Arms(*unread), FakeClock()
        self.stop = StopAttempts(
            ledger.cancelling,
            ledger.relay,
            self.arms,
            lambda: hears_beats,
            clock=self.clock,
        )
        self.cancel = CancelTasks(ledger.cancelling, ledger.relay, self.stop)


async def a_tree(ledger: Ledger) -> list[str]:
    """A waiting root with a queued, a dispatched and a running child, the last with a child."""
    before = await accept(ledger)
    root = await accept(ledger, depends_on=[before])
    queued, dispatched, running = [await accept(ledger, parent_task_id=root) for _ in range(3)]
    leaf = await accept(ledger, parent_task_id=running)
    await record(ledger, placed(dispatched, seq=41), started(running), started(leaf))
    return [root, queued, dispatched, running, leaf]


async def proofs(ledger: Ledger, task_ids: Sequence[str]) -> Sequence[tuple[str, str | None]]:
    found = []
    for task_id in task_ids:
        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        found.append((view.state.value, view.proof))
    return found


def a_beat(*running: str, instance: str = "i-1") -> hot.Heartbeat:
    listed = [hot.RunningAttempt(task_id, 1) for task_id in running]
    return hot.Heartbeat("one", instance, 1, "ready", 5, listed)


class TestASubtree:
    async def test_ends_at_once_what_no_arm_runs_and_tells_the_arms_of_the_rest(
        self, ledger: Ledger
    ) -> None:
        root, _, dispatched, running, leaf = tree = await a_tree(ledger)
        desk = Desk(ledger, dispatched)

        assert await desk.cancel(root, "default", "enough") is True

        assert await proofs(ledger, tree) == [
            ("cancelled", "never_started"),
            ("cancelled", "never_started"),
            ("cancelled", "never_started"),
            ("running", None),
            ("running", None),
        ]
        assert {item.task_id for item in desk.arms} == {dispatched, running, leaf}
        view = await ledger.tasks.get("default", running)
        assert view is not None
        assert view.cancelling_since is not None
        found = await ledger.tasks.called_off("default", root)
        assert found is not None
        assert [item.task_id for item in found.subtree] == tree[1:]

    async def test_is_called_off_once(self, ledger: Ledger) -> None:
        tree = await a_tree(ledger)
        desk = Desk(ledger)
        await desk.cancel(tree[0], "default", "enough")
        before = [await events(ledger, task_id) for task_id in tree]

        assert await desk.cancel(tree[0], "default", "again") is False

        assert [await events(ledger, task_id) for task_id in tree] == before

    async def test_is_not_called_off_by_another_tenant(self, ledger: Ledger) -> None:
        tree = await a_tree(ledger)

        assert await Desk(ledger).cancel(tree[0], "other", "") is False
        assert await ledger.tasks.called_off("other", tree[0]) is None

    async def test_takes_no_more_children(self, ledger: Ledger) -> None:
        _, _, _, running, _ = tree = await a_tree(ledger)
        await Desk(ledger).cancel(tree[0], "default", "")

        for parent in (tree[0], running):
            (answer,), _ = await ledger.intake.accept(
                [a_new_task(parent_task_id=parent)], lambda _: []
            )
            assert isinstance(answer, Conflict), answer
            assert answer.code == "INVALID_STATE_TRANSITION"

    async def test_has_no_open_child_left_however_they_race(self, ledger: Ledger) -> None:
        desk = Desk(ledger)
        for _ in range(10):
            parent = await accept(ledger)

            async def add(parent: str = parent) -> None:
                children = [a_new_task(parent_task_id=parent) for _ in range(3)]
                await ledger.intake.accept(children, lambda _: [])

            await asyncio.gather(add(), desk.cancel(parent, "default", ""), add())

        assert await ledger.execute(
            "select count(*) from ledger.task where terminal_at is null"
        ) == [(0,)]

    async def test_ends_with_its_parent_when_that_fails(self, ledger: Ledger) -> None:
        root = await accept(ledger)
        waiting = await accept(ledger, parent_task_id=root)
        running = await accept(ledger, parent_task_id=root)
        await record(ledger, started(running))
        desk = Desk(ledger)

        await record(ledger, *news(a_failure(root, retryable=False)))
        await desk.stop()

        assert await ledger.state_of(waiting) == ("cancelled", 1)
        assert [item.task_id for item in desk.arms] == [running]
        assert await told(ledger, waiting, "reason") == "its parent did not complete"

    async def test_is_left_alone_when_its_parent_completes(self, ledger: Ledger) -> None:
        root = await accept(ledger)
        child = await accept(ledger, parent_task_id=root)

        await record(ledger, *news(a_result(root)))

        assert await ledger.state_of(child) == ("queued", 1)


class TestAProof:
    async def running(self, ledger: Ledger, desk: Desk, **fields: Any) -> str:
        """A task that runs and has been called off."""
        task_id = await accept(ledger, **fields)
        await record(ledger, placed(task_id))
        await record(ledger, started(task_id))
        await desk.cancel(task_id, "default", "enough")
        return task_id

    @pytest.mark.parametrize("result", [a_result, a_failure])
    async def test_is_a_result_whatever_it_says(self, ledger: Ledger, result: Any) -> None:
        task_id = await self.running(ledger, Desk(ledger))

        for _ in range(2):
            await record(ledger, *news(result(task_id, tokens_used=7)))

        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert (view.state, view.proof, view.attempt) == ("cancelled", "stopped_by_arm", 1)
        assert (view.tokens_used, view.cancelling_since) == (7, None)
        assert (view.attempts[0].outcome, view.attempts[0].proof) == ("cancelled", "stopped_by_arm")
        assert await ledger.execute("select attempt from ledger.late_result") == [(1,)]
        assert await ledger.execute("select count(*) from ledger.result") == [(0,)]
        verbs = [verb for _, verb in await events(ledger, task_id)]
        assert verbs == ["placed", "started", "cancelled"] or verbs[-1] == "cancelled"
        assert (verbs.count("cancelled"), verbs.count("late_result")) == (1, 0)
        assert await told(ledger, task_id, "proof") == "stopped_by_arm"
        assert await told(ledger, task_id, "reason") == "enough"

    async def test_of_an_unheard_start_tells_the_whole_way(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await record(ledger, placed(task_id))
        await Desk(ledger).cancel(task_id, "default", "")

        await record(ledger, *news(a_result(task_id)))

        told_verbs = await events(ledger, task_id)
        assert told_verbs == [(3, "placed"), (4, "started"), (5, "cancelled")]

    async def test_does_not_come_from_another_arm(self, ledger: Ledger) -> None:
        task_id = await self.running(ledger, Desk(ledger))

        await record(ledger, *news(a_result(task_id, arm_id="two")))

        assert (await ledger.state_of(task_id))[0] == "running"

    async def test_is_no_reason_to_try_again(self, ledger: Ledger) -> None:
        desk = Desk(ledger, hears_beats=False)
        task_id = await self.running(ledger, desk)
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")

        async def revoke(_: Sequence[Revocation]) -> None:
            pass

        await Reconcile(ledger.endings, ledger.relay, revoke, 1).once()

        assert await ledger.state_of(task_id) == ("running", 1)

    async def test_is_a_beat_of_its_instance_without_it(self, ledger: Ledger) -> None:
        desk = Desk(ledger)
        task_id = await self.running(ledger, desk)
        await desk.stop()
        await desk.stop.heard(a_beat(task_id))
        await desk.stop.heard(a_beat(instance="i-2"))
        desk.clock.advance(2)
        await desk.stop()
        still = await ledger.state_of(task_id)

        await desk.stop.heard(a_beat())
        desk.clock.advance(0.5)
        await desk.stop()
        too_early = await ledger.state_of(task_id)
        desk.clock.advance(0.5)
        await desk.stop()

        assert (still, too_early) == (("running", 1), ("running", 1))
        assert await proofs(ledger, [task_id]) == [("cancelled", "stopped_by_arm")]

    async def test_is_the_end_of_its_lease(self, ledger: Ledger) -> None:
        deaf, desk = Desk(ledger, hears_beats=False), Desk(ledger)
        task_id = await self.running(ledger, deaf)
        await ledger.execute("update ledger.task set lease_until = now() - interval '1 s'")

        await deaf.stop()
        before = await ledger.state_of(task_id)
        await desk.stop()

        assert before == ("running", 1)
        assert await proofs(ledger, [task_id]) == [("cancelled", "lease_ended")]

    async def test_is_not_waited_for_for_ever(self, ledger: Ledger) -> None:
        desk = Desk(ledger)
        task_id = await self.running(ledger, desk)
        await ledger.execute("update ledger.task set cancelling_since = now() - interval '11 s'")

        await desk.stop()
        await record(ledger, *news(a_result(task_id, tokens_used=9)))

        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert (view.state, view.proof, view.tokens_used) == ("cancelled", "forced", 9)
        assert [verb for _, verb in await events(ledger, task_id)][-2:] == [
            "cancelled",
            "late_result",
        ]

    async def test_is_asked_for_again_until_it_comes(self, ledger: Ledger) -> None:
        desk = Desk(ledger)
        task_id = await self.running(ledger, desk)

        for _ in range(3):
            await desk.stop()

        assert [item.task_id for item in desk.arms] == [task_id] * 4

    async def test_of_never_starting_falls_when_a_start_was_told(self, ledger: Ledger) -> None:
        task_id = await accept(ledger)
        await record(ledger, placed(task_id, seq=5))
        await Desk(ledger).cancel(task_id, "default", "")
        await record(ledger, started(task_id))

        await Desk(ledger, task_id).stop()

        view = await ledger.tasks.get("default", task_id)
        assert view is not None
        assert (view.state, view.attempts[0].started_at is not None) == ("dispatched", True)


class TestTheFirstCommit:
    async def test_wins_over_the_other(self, ledger: Ledger) -> None:
        desk = Desk(ledger)
        for _ in range(20):
            task_id = await accept(ledger)
            await record(ledger, placed(task_id))
            await asyncio.gather(
                desk.cancel(task_id, "default", ""), record(ledger, *news(a_result(task_id)))
            )
            # A cancel that was first has the result for its proof.
            verbs = [verb for _, verb in await events(ledger, task_id)]
            assert len({"cancelled", "completed"} & set(verbs)) == 1, verbs
            assert (await ledger.state_of(task_id))[0] in ("cancelled", "completed")

    async def test_leaves_a_later_placement_to_be_revoked(self, ledger: Ledger) -> None:
        task_id, revoked = await accept(ledger), list[Revocation]()

        async def revoke(items: Sequence[Revocation]) -> None:
            revoked.extend(items)

        await Desk(ledger).cancel(task_id, "default", "")
        await RecordNews(ledger.attempts, ledger.relay, revoke)([placed(task_id, seq=9)])

        assert [r.dispatch_seq for r in revoked] == [9]


async def test_a_task_that_was_never_heard_of_is_not_cancelled(ledger: Ledger) -> None:
    (answer,), _ = await ledger.intake.accept([a_new_task()], lambda _: [])

    assert isinstance(answer, Known)
    assert await Desk(ledger).cancel("tsk_00000000000000000000000000", "default", "") is False
