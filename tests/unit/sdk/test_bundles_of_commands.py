"""Run commands that come together: one instance takes a bundle, whole, and answers for it."""

import asyncio

import pytest

from octarm.common.bus.delivery import ACK, HELD, Dead, Retry
from octarm.models.contracts import TaskContract
from octarm.models.results import ExecutionResult
from octarm.sdk.handlers import runnable
from tests.support.wait import wait_until
from tests.support.workers import Arrangement, FakeDelivery, a_command, code_of, delivered


class Gate:
    """A handler that waits until it is opened."""

    def __init__(self, slots: int, *, held_s: float = 25.0) -> None:
        self.opened = asyncio.Event()
        self.ran: list[str] = []
        self.at = Arrangement(self.run, slots=slots, held_s=held_s)
        self.worker = self.at.worker

    async def run(self, task: TaskContract) -> None:
        self.ran.append(task.task_id)
        await self.opened.wait()

    async def results(self, number: int) -> list[ExecutionResult]:
        await wait_until(lambda: len(self.at.published) >= number)
        return [ExecutionResult.model_validate_json(it.payload) for it in self.at.published]


async def test_what_fits_starts_and_the_rest_waits_and_is_reported_as_running() -> None:
    gate = Gate(slots=2)
    one, two, three = (a_command() for _ in range(3))

    assert await gate.at.deliver(delivered(one, two, three)) == [ACK]
    await wait_until(lambda: len(gate.ran) == 2)

    assert gate.ran == [one.task_id, two.task_id]
    assert gate.worker.running() == [(it.task_id, 1) for it in (one, two, three)]
    assert gate.worker.capacity() == 0
    gate.opened.set()
    await gate.results(3)
    assert gate.ran[2] == three.task_id
    await wait_until(lambda: gate.worker.capacity() == 2)


async def test_a_bundle_of_which_nothing_can_start_is_left_to_others() -> None:
    gate = Gate(slots=1)
    first, second = delivered(a_command()), delivered(a_command(), a_command())

    outcomes = await gate.at.deliver(first, second)
    reported = len(gate.worker.running())
    gate.opened.set()
    await gate.results(3)

    assert (outcomes, reported) == ([ACK, HELD], 1)
    assert second.settled == "ack"


async def test_one_that_comes_again_while_it_is_held_runs_once() -> None:
    gate = Gate(slots=1)
    command = a_command()
    first, again = delivered(command), delivered(command)
    await gate.at.deliver(delivered(a_command()))

    outcomes = await gate.at.deliver(first, again)
    gate.opened.set()
    await gate.results(2)

    assert outcomes == [HELD, HELD]
    assert (first.settled, again.settled) == ("", "ack")
    assert len(gate.ran) == 2


async def test_what_was_taken_already_is_not_taken_twice() -> None:
    gate = Gate(slots=2)
    commands = [a_command() for _ in range(3)]
    await gate.at.deliver(delivered(*commands))
    extra = a_command()

    assert await gate.at.deliver(delivered(*commands)) == [ACK]
    assert await gate.at.deliver(delivered(*commands, extra)) == [HELD]
    gate.opened.set()
    await gate.results(4)

    assert sorted(gate.ran) == sorted(it.task_id for it in (*commands, extra))


async def test_one_of_a_bundle_is_called_off_while_it_waits() -> None:
    gate = Gate(slots=1)
    running, queued, held, other = (a_command() for _ in range(4))
    bundle, last = delivered(running, queued), delivered(held, other)
    await gate.at.deliver(bundle, last)

    for command in (queued, held):
        gate.at.cancel(command, "enough")
    results = await gate.results(2)
    left = last.settled
    gate.at.cancel(other, "enough")
    gate.opened.set()
    await gate.results(4)

    assert [code_of(result) for result in results] == ["CANCELLED", "CANCELLED"]
    assert (left, last.settled) == ("", "ack")
    assert gate.ran == [running.task_id]


async def test_draining_hands_back_what_only_waits() -> None:
    gate = Gate(slots=1)
    running, queued = a_command(), a_command()
    held = delivered(a_command())
    await gate.at.deliver(delivered(running, queued), held)

    gate.worker.stop_taking()
    (result,) = await gate.results(1)
    (late,) = await gate.at.deliver(delivered(a_command()))
    gate.opened.set()
    await gate.worker.drain(1)

    assert (result.task_id, code_of(result)) == (queued.task_id, "ARM_UNAVAILABLE")
    assert result.retryable
    assert (held.settled, late) == ("retry", Retry(0.0))
    assert gate.ran == [running.task_id]


async def test_a_bundle_in_which_one_cannot_be_read_is_dead() -> None:
    gate = Gate(slots=2)
    good = delivered(a_command(), a_command())

    (outcome,) = await gate.at.deliver(FakeDelivery(good.data.replace(b'"attempt":1', b'"a":1', 1)))

    assert isinstance(outcome, Dead)
    assert gate.ran == []


@pytest.mark.parametrize(("slots", "messages"), [(1, 1), (15, 15), (16, 8), (512, 8), (600, 10)])
def test_asks_for_as_many_messages_as_may_fill_it(slots: int, messages: int) -> None:
    assert Gate(slots).worker.capacity() == messages


async def test_many_that_are_over_at_once_free_their_slots_one_after_another() -> None:
    gate = Gate(slots=1)
    running, *late = (a_command() for _ in range(64))
    await gate.at.deliver(delivered(running))
    await gate.at.deliver(delivered(*late))
    for command in late:
        gate.worker._called_off.put((command.task_id, 1), "enough")

    gate.opened.set()

    assert len(await gate.results(64)) == 64
    assert gate.ran == [running.task_id]


class TestSeveralSlots:
    async def test_what_takes_them_all_runs_alone(self) -> None:
        gate = Gate(slots=4)
        wide, narrow = a_command(slots=4), a_command()

        outcomes = await gate.at.deliver(delivered(wide), delivered(narrow))
        await wait_until(lambda: gate.ran)

        assert outcomes == [ACK, HELD]
        assert gate.ran == [wide.task_id]
        assert gate.worker.capacity() == 0
        assert gate.worker.slots_of((wide.task_id, 1)) == 4
        gate.opened.set()
        await gate.results(2)
        await wait_until(lambda: gate.worker.capacity() == 4)

    async def test_what_fits_not_yet_keeps_its_turn(self) -> None:
        gate = Gate(slots=3)
        first, wide, narrow = a_command(), a_command(slots=3), a_command()

        outcomes = await gate.at.deliver(delivered(first), delivered(wide, narrow))
        await wait_until(lambda: gate.ran)

        assert outcomes == [ACK, HELD]
        assert gate.ran == [first.task_id]
        assert gate.worker.capacity() == 0
        gate.opened.set()
        await gate.results(3)
        assert gate.ran == [it.task_id for it in (first, wide, narrow)]

    async def test_what_is_left_of_a_bundle_waits_for_all_it_wants(self) -> None:
        gate = Gate(slots=3)
        wide, wider = a_command(slots=2), a_command(slots=2)

        assert await gate.at.deliver(delivered(wide, wider)) == [ACK]
        await wait_until(lambda: gate.ran)

        assert gate.ran == [wide.task_id]
        assert gate.worker.running() == [(it.task_id, 1) for it in (wide, wider)]
        assert gate.worker.slots_of((wider.task_id, 1)) == 2
        gate.opened.set()
        await gate.results(2)
        await wait_until(lambda: gate.worker.capacity() == 3)

    async def test_what_wants_more_than_there_are_runs_when_nothing_else_does(self) -> None:
        gate = Gate(slots=2)
        narrow, huge, late = a_command(), a_command(slots=9), a_command()

        await gate.at.deliver(delivered(narrow), delivered(huge), delivered(late))
        await wait_until(lambda: gate.ran)

        assert gate.ran == [narrow.task_id]
        gate.opened.set()
        await gate.results(3)
        assert gate.ran == [it.task_id for it in (narrow, huge, late)]

    async def test_what_is_called_off_or_comes_again_is_counted_once(self) -> None:
        gate = Gate(slots=4)
        first, wide, wider = a_command(slots=3), a_command(slots=2), a_command(slots=3)
        await gate.at.deliver(delivered(first), delivered(wide), delivered(wide), delivered(wider))
        await wait_until(lambda: gate.ran)

        gate.at.cancel(wide)
        gate.at.cancel(wider)
        gate.opened.set()
        await gate.results(3)

        assert gate.ran == [first.task_id]
        await wait_until(lambda: gate.worker.capacity() == 4)

    async def test_what_was_held_for_too_long_takes_nothing(self) -> None:
        gate = Gate(slots=2, held_s=0.0)
        first, held = delivered(a_command()), delivered(a_command(slots=2))
        await gate.at.deliver(first, held)

        gate.opened.set()
        await gate.results(1)

        await wait_until(lambda: gate.worker.capacity() == 2)
        assert held.settled == "retry"

    async def test_slots_of_a_handler_that_does_not_end_stay_taken(self) -> None:
        gate = Gate(slots=4)
        gate.worker._handler = runnable(_deaf)
        wide = a_command(slots=3)
        await gate.at.deliver(delivered(wide))

        gate.at.cancel(wide)
        await gate.results(1)

        assert gate.worker.abandoned() == 3
        await wait_until(lambda: gate.worker.abandoned() == 0)


async def _deaf(_: TaskContract) -> None:
    """Ignore the first cancellation."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)
