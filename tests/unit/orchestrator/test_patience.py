"""Placements that wait a moment for the news of their start or end."""

import asyncio

import pytest

from octarm.common.bus.delivery import ACK, HELD, Delivery
from octarm.common.testing.fakes import FakeClock
from octarm.ledger.domain.news import AttemptNews, Key, Placement, Step
from octarm.models.errors import Unavailable
from octarm.models.ids import new_id
from octarm.models.subjects import RESULT, RUN_TASKS
from octarm.orchestrator.domain.patience import REMEMBERED, HeldPlacements
from octarm.orchestrator.results import PATIENCE_S, ResultsConsumer
from tests.support.deliveries import a_delivery
from tests.support.ledger import a_command, a_result, placed
from tests.support.wait import wait_until


def a_placement(task_id: str) -> Placement:
    """The placement of a task's first attempt."""
    placement = placed(task_id).placement
    assert placement is not None
    return placement


class Ledger:
    """Takes news down; refuses it when told to."""

    def __init__(self) -> None:
        self.news: list[list[AttemptNews]] = []
        self.is_away = False
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def __call__(self, news: list[AttemptNews]) -> dict[Key, str]:
        if self.is_away:
            raise Unavailable("the ledger is away")
        self.news.append(news)
        await self.may_go_on.wait()
        return {}

    def steps(self) -> list[list[Step]]:
        """How far each batch took its attempts."""
        return [[item.step for item in batch] for batch in self.news]


class Stage:
    """A consumer whose recalled deliveries come back in the next batch."""

    def __init__(self) -> None:
        self.ledger, self.clock = Ledger(), FakeClock()
        self.consumer = ResultsConsumer(self.ledger, self.clock)
        self.recalled: list[Delivery] = []

    def letter(self, *task_ids: str) -> Delivery:
        """A message with placements."""
        return a_delivery(RUN_TASKS.at(arm_id="one"), a_command(*task_ids), self.recalled.append)

    async def result(self, task_id: str) -> None:
        """Let a result come."""
        await self.consumer([a_delivery(RESULT.at(arm_id="one"), a_result(task_id))])


class TestConsumer:
    async def test_a_placement_and_its_result_are_one_change(self) -> None:
        stage = Stage()
        one, two = new_id("tsk"), new_id("tsk")
        letter = stage.letter(one, two)

        assert await stage.consumer([letter]) == [HELD]
        assert stage.ledger.steps() == [[]]
        await stage.result(one)
        assert not letter.settled
        await stage.result(two)

        assert letter.settled
        assert stage.ledger.steps()[1:] == [[Step.ENDED], [Step.ENDED]]
        assert all(batch[0].placement for batch in stage.ledger.news[1:])

    async def test_a_placement_that_its_result_has_overtaken_waits_for_nothing(self) -> None:
        stage = Stage()
        one, two = new_id("tsk"), new_id("tsk")
        await stage.result(one)

        both, alone = stage.letter(one, two), stage.letter(one)
        assert await stage.consumer([both]) == [HELD]
        assert stage.ledger.steps() == [[Step.ENDED], [Step.PLACED]]
        await stage.result(two)

        assert both.settled
        await stage.consumer([alone])
        assert not alone.settled

    async def test_what_nothing_more_is_heard_of_is_recorded_after_a_while(self) -> None:
        stage = Stage()
        stop = asyncio.Event()
        running = asyncio.create_task(stage.consumer.run(stop))
        letter = stage.letter(new_id("tsk"))
        await stage.consumer([letter])

        stage.clock.advance(PATIENCE_S)
        await wait_until(lambda: stage.recalled)
        outcomes = await stage.consumer(stage.recalled)
        stop.set()
        await running

        assert (stage.recalled, outcomes) == ([letter], [ACK])
        assert stage.ledger.steps()[1:] == [[Step.PLACED]]

    async def test_of_two_deliveries_of_a_message_the_later_one_settles_it(self) -> None:
        stage = Stage()
        stop = asyncio.Event()
        running = asyncio.create_task(stage.consumer.run(stop))
        task_id = new_id("tsk")
        first, again = stage.letter(task_id), stage.letter(task_id)
        await stage.consumer([first, again])

        stage.clock.advance(PATIENCE_S)
        await wait_until(lambda: len(stage.recalled) == 2)
        outcomes = await stage.consumer(stage.recalled)
        stop.set()
        await running

        assert (stage.recalled, outcomes) == ([first, again], [HELD, ACK])

    async def test_nothing_is_lost_when_the_ledger_is_away(self) -> None:
        stage = Stage()
        task_id = new_id("tsk")
        letter = stage.letter(task_id)
        await stage.consumer([letter])

        stage.ledger.is_away = True
        with pytest.raises(Unavailable):
            await stage.result(task_id)
        stage.ledger.is_away = False
        await stage.result(task_id)

        assert letter.settled
        assert stage.ledger.news[-1][0].placement is not None

    async def test_what_is_being_recorded_with_its_result_is_not_recorded_alone(self) -> None:
        stage = Stage()
        stop = asyncio.Event()
        first, second = new_id("tsk"), new_id("tsk")
        early, late = stage.letter(first), stage.letter(second)
        await stage.consumer([early, late])
        running = asyncio.create_task(stage.consumer.run(stop))
        stage.clock.advance(PATIENCE_S)
        await wait_until(lambda: len(stage.recalled) == 2)

        stage.ledger.may_go_on.clear()
        ending = asyncio.create_task(stage.result(first))
        await wait_until(lambda: stage.ledger.news[1:])
        recalled = asyncio.create_task(stage.consumer(stage.recalled))
        await wait_until(lambda: stage.ledger.news[2:])
        stage.ledger.may_go_on.set()
        outcomes, _ = await asyncio.gather(recalled, ending)
        stop.set()
        await running

        assert outcomes == [HELD, ACK]
        assert early.settled
        assert stage.ledger.steps()[1:] == [[Step.ENDED], [Step.PLACED]]
        assert stage.ledger.news[2][0].task_id == second

    async def test_all_are_handed_back_when_the_process_stops(self) -> None:
        stage = Stage()
        stop = asyncio.Event()
        letter = stage.letter(new_id("tsk"))
        await stage.consumer([letter])
        stop.set()

        await stage.consumer.run(stop)

        assert letter.settled
        assert await stage.consumer([stage.letter(new_id("tsk"))]) == [ACK]

    async def test_one_that_was_refused_with_its_batch_is_forgotten(self) -> None:
        stage = Stage()
        stop = asyncio.Event()
        letter = stage.letter(new_id("tsk"))
        await stage.consumer([letter])
        letter.retry()

        running = asyncio.create_task(stage.consumer.run(stop))
        stage.clock.advance(PATIENCE_S)
        await wait_until(lambda: not stage.consumer.holds_any)
        stop.set()
        await running

        assert stage.recalled == []


class TestHeldPlacements:
    def test_a_letter_that_brings_known_placements_takes_them_over(self) -> None:
        held: HeldPlacements[str] = HeldPlacements()
        placement = a_placement(new_id("tsk"))
        key = (placement.task_id, placement.attempt)
        held.hold("first", [placement], now=1.0)
        held.hold("again", [placement], now=2.0)

        assert held.ripe(since=1.0) == ["first"]
        assert held.release("first") == []
        assert held.take([key, ("unknown", 1)]) == [placement]
        assert held.recorded([placement, placement]) == ["again"]
        assert not held

    def test_what_came_first_is_remembered_within_bounds(self) -> None:
        held: HeldPlacements[str] = HeldPlacements()
        old, new = a_placement(new_id("tsk")), a_placement(new_id("tsk"))

        held.overtake([(old.task_id, 1)])
        held.overtake((f"another-{number}", 1) for number in range(REMEMBERED - 1))
        held.overtake([(new.task_id, 1)])

        assert held.overtaken([old, new]) == [(new.task_id, 1)]

    def test_a_letter_is_not_ripe_while_some_of_it_is_taken(self) -> None:
        held: HeldPlacements[str] = HeldPlacements()
        one, two = (a_placement(new_id("tsk")) for _ in range(2))
        held.hold("letter", [one, two], now=1.0)

        taken = held.take([(one.task_id, 1)])
        assert held.is_taken("letter")
        assert held.ripe(since=1.0) == []
        held.put_back(taken)
        assert held.ripe(since=1.0) == ["letter"]

    def test_what_is_left_of_a_letter_is_given_back(self) -> None:
        held: HeldPlacements[str] = HeldPlacements()
        one, two = (a_placement(new_id("tsk")) for _ in range(2))
        held.hold("letter", [one, two], now=1.0)

        assert held.recorded([one]) == []
        assert "letter" in held
        assert held.release("letter") == [two]
        assert held.recorded([two]) == []
