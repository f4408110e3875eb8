"""Heartbeats, results, endings; taking over; splitting; health."""

import asyncio
from collections.abc import Sequence
from typing import cast

import msgspec
import pytest

from octarm.common.testing.fakes import FakeClock, RecordingPublisher
from octarm.models.errors import Unavailable
from octarm.models.hot import PlaceTasks, ResultKey
from octarm.models.queries import GetQueue, Outcome, WhyWaiting
from octarm.models.states import TaskState
from octarm.models.subjects import PLACE_TASKS
from octarm.scheduler.domain.tasks import Hold
from octarm.scheduler.usecases import split, tend
from octarm.scheduler.usecases.answer import ExplainWait, ShowQueue
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.follow import EndAttempts, Ending, FreeSlot, SweepFlights
from octarm.scheduler.usecases.split import SplitMessages
from octarm.scheduler.usecases.tend import TendFleet
from tests.support.scheduling import (
    NOON_S,
    FakeDispatched,
    a_desk,
    a_queue,
    beat,
    facts,
    ready,
    task_id,
    waiting,
)
from tests.support.wait import wait_until


def clock(desk: Desk) -> FakeClock:
    return cast(FakeClock, desk.clock)


def flying(desk: Desk, number: int, attempt: int = 1, *, seq: int = 0) -> None:
    key = (task_id(number), attempt)
    flight = desk.fleet.reserve(desk.fleet.pool("one"), key, now=desk.clock.monotonic())
    flight.dispatch_seq = seq


class FakeLedger:
    """Says where tasks stand; None: does not answer."""

    def __init__(self, known: dict[str, TaskState] | None) -> None:
        self.known = known

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Outcome]:
        if self.known is None:
            raise Unavailable("nobody answers")
        return {
            one: Outcome(task_id=one, state=self.known[one], attempt=1)
            for one in task_ids
            if one in self.known
        }


@pytest.fixture
def desk() -> Desk:
    return a_desk(facts("one"), slots=3)


class TestResults:
    def test_a_result_frees_the_slot_once(self, desk: Desk) -> None:
        flying(desk, 1)

        for _ in range(2):
            FreeSlot(desk)(ResultKey(task_id(1), 1, "one"))

        assert desk.fleet.pool("one").free == 3
        assert desk.work.is_set()

    def test_an_unknown_result_is_nothing(self, desk: Desk) -> None:
        FreeSlot(desk)(ResultKey(task_id(1), 1, "one"))

        assert not desk.work.is_set()


class TestEndings:
    @pytest.mark.parametrize("verb", ["cancelled", "timed_out", "failed", "rejected"])
    def test_an_end_drops_the_task_and_its_attempts(self, desk: Desk, verb: str) -> None:
        settled: list[int] = []
        desk.queue.add(
            waiting(ready(1, attempt=2), Hold(1, 1, lambda: settled.append(1))), now=NOON_S
        )
        flying(desk, 1, attempt=1)

        EndAttempts(desk)(Ending(f"task.{verb}", task_id(1), 1))

        assert settled == [1]
        assert not desk.fleet.pool("one").flights
        assert desk.queue.ended(task_id(1), 99)

    def test_a_retry_drops_the_attempt_before_and_not_the_next(self, desk: Desk) -> None:
        desk.queue.add(waiting(ready(1, attempt=2)), now=NOON_S)
        flying(desk, 1, attempt=1)

        EndAttempts(desk)(Ending("task.retried", task_id(1), 2))

        assert len(desk.queue) == 1
        assert not desk.fleet.pool("one").flights


class TestSweeping:
    async def test_drops_what_nobody_has(self, desk: Desk) -> None:
        flying(desk, 1, seq=5)
        flying(desk, 2, seq=9)
        clock(desk).advance(16)

        dropped = await SweepFlights(desk, FakeDispatched(below=6), FakeLedger({}))("one")

        assert dropped == [(task_id(1), 1)]
        assert await SweepFlights(desk, FakeDispatched(below=6), FakeLedger({}))("one") == []
        assert await SweepFlights(desk, FakeDispatched(below=None), FakeLedger({}))("one") == [
            (task_id(2), 1)
        ]

    async def test_what_dispatch_lost_before_the_ledger_saw_it_waits_again(
        self, desk: Desk
    ) -> None:
        for number in (1, 2, 3):
            flying(desk, number, seq=number)
            flight = desk.fleet.flight(task_id(number), 1)
            assert flight is not None
            flight.task = waiting(ready(number))
        desk.fleet.beat(beat("one", 3, [(task_id(3), 1)]), now=1000.0)
        clock(desk).advance(16)
        desk.fleet.beat(beat("one", 3), now=1016.0)
        ledger = FakeLedger({task_id(1): TaskState.QUEUED, task_id(2): TaskState.DISPATCHED})

        late = await SweepFlights(desk, FakeDispatched(known=0), ledger)("two")
        removed = FakeDispatched(known=0, is_idle=True)
        dropped = await SweepFlights(desk, removed, ledger)("one")

        assert (late, len(dropped)) == ([], 2)
        assert [task.task_id for task in desk.queue] == [task_id(1)]

    async def test_keeps_their_slots_while_the_ledger_does_not_answer(self, desk: Desk) -> None:
        flying(desk, 1, seq=1)
        flight = desk.fleet.flight(task_id(1), 1)
        assert flight is not None
        flight.task = waiting(ready(1))
        clock(desk).advance(16)

        with pytest.raises(Unavailable):
            await SweepFlights(desk, FakeDispatched(), FakeLedger(None))("one")

        assert desk.fleet.pool("one").flights


class TestTending:
    async def test_a_beat_with_lost_attempts_leads_to_a_sweep(self, desk: Desk) -> None:
        tending = TendFleet(desk, SweepFlights(desk, FakeDispatched(), FakeLedger({})))
        flying(desk, 1)
        clock(desk).advance(16)
        tending.hear(beat("one", 3))

        await tending.turn()

        assert not desk.fleet.pool("one").flights

    async def test_a_sweep_that_fails_waits_for_the_next_beat(self, desk: Desk) -> None:
        dispatched = FakeDispatched(failure=Unavailable("gone"))
        tending = TendFleet(desk, SweepFlights(desk, dispatched, FakeLedger({})))
        flying(desk, 1)
        clock(desk).advance(16)
        tending.hear(beat("one", 3))

        await tending.turn()

        assert len(desk.fleet.pool("one").flights) == 1

    async def test_silent_instances_are_dropped_in_time(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tend, "LONGEST_PAUSE_S", 0.001)
        desk.queue.add(waiting(ready()), now=NOON_S)
        tending = TendFleet(desk, SweepFlights(desk, FakeDispatched(), FakeLedger({})))
        running = asyncio.create_task(tending.run())

        clock(desk).advance(181)
        await wait_until(lambda: not desk.fleet.pool("one").slots)

        running.cancel()
        await asyncio.wait({running})
        desk.clear(a_queue(fleet=desk.fleet))
        await tending.turn()


class TestSplitting:
    async def test_what_still_waits_of_a_partly_placed_message_becomes_its_own(
        self, desk: Desk
    ) -> None:
        bus, hold = RecordingPublisher(), Hold(1, 2, lambda: None)
        tasks = [waiting(ready(number), hold) for number in (1, 2)]
        for task in tasks:
            desk.queue.add(task, now=NOON_S)
        desk.queue.remove(tasks[0])
        desk.done(tasks[0])
        splitting = SplitMessages(desk, bus)

        assert await splitting() == 0
        clock(desk).advance(split.SPLIT_AFTER_S)
        assert await splitting() == 1

        (message,) = bus.published
        assert message.subject == PLACE_TASKS.at(shard=0)
        (rest,) = msgspec.json.decode(message.payload, type=PlaceTasks).tasks
        assert rest.task_id == task_id(2)

    async def test_a_refusal_is_tried_again_later(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(split, "EVERY_S", 0.001)
        bus, hold = RecordingPublisher(), Hold(1, 2, lambda: None)
        bus.refused[PLACE_TASKS.at(shard=0)] = Unavailable("gone")
        desk.queue.add(waiting(ready(), hold), now=NOON_S)
        hold.task_done()
        stop = asyncio.Event()
        running = asyncio.create_task(SplitMessages(desk, bus).run(stop))
        await wait_until(lambda: hold.split_at is not None)
        clock(desk).advance(split.SPLIT_AFTER_S)
        await wait_until(lambda: hold.split_at != 1000.0 + split.SPLIT_AFTER_S)
        bus.refused.clear()
        await wait_until(lambda: hold.split_at is not None)
        clock(desk).advance(split.SPLIT_AFTER_S)
        await wait_until(lambda: bus.published)

        stop.set()
        await running


class TestAnswers:
    async def test_shows_the_queue(self, desk: Desk) -> None:
        desk.queue.add(waiting(ready()), now=NOON_S)

        view = await ShowQueue(desk, "me")(GetQueue())

        assert (view.leader, view.policy, view.queued) == ("me", "priority", 1)

    async def test_explains_a_wait(self, desk: Desk) -> None:
        desk.queue.add(waiting(ready(needs=["x"])), now=NOON_S)

        answer = await ExplainWait(desk)(WhyWaiting(task_id=task_id(1)))

        assert (answer.position, answer.reason) == (0, "no arm takes it that has x")


class TestHealth:
    def test_work_that_could_be_placed_and_is_not_is_ill(self, desk: Desk) -> None:
        desk.queue.add(waiting(ready()), now=NOON_S)
        desk.poke()
        assert desk.healthy()

        clock(desk).advance(30)
        desk.poke()

        assert not desk.healthy()

    def test_work_that_cannot_be_placed_is_no_illness(self, desk: Desk) -> None:
        desk.queue.add(waiting(ready(needs=["x"])), now=NOON_S)
        clock(desk).advance(99)

        assert desk.healthy()

    def test_a_standby_is_healthy(self, desk: Desk) -> None:
        desk.queue.add(waiting(ready()), now=NOON_S)
        desk.leading = False
        clock(desk).advance(99)

        assert desk.healthy()


class TestDirectory:
    def test_a_change_wakes_what_waits(self, desk: Desk) -> None:
        desk.queue.add(waiting(ready()), now=NOON_S)

        desk.directory_listed([facts("one")])
        unchanged = desk.work.is_set()
        desk.arm_unlearned("one")

        assert not unchanged
        assert desk.work.is_set()

    def test_clearing_forgets_what_waits(self, desk: Desk) -> None:
        desk.queue.add(waiting(ready()), now=NOON_S)
        desk.holds[1] = Hold(1, 1, lambda: None)

        desk.clear(a_queue(fleet=desk.fleet))
        desk.more_room()

        assert (len(desk.queue), desk.holds) == (0, {})
