"""A command that another instance may have begun is begun only after the ledger was asked."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import msgspec
from nats.aio.msg import Msg

from octarm.common.bus.delivery import ACK, HELD, Delivery, Outcome
from octarm.common.testing import FakeClock
from octarm.models.errors import Unavailable
from octarm.models.queries import Outcome as Known
from octarm.models.states import TaskState
from octarm.sdk.doubts import Doubts
from octarm.sdk.inbox import commands_in
from tests.support.wait import wait_until
from tests.support.workers import a_command, delivered

EARLIER = timedelta(seconds=5)


class Scene:
    """One instance, a ledger that knows what it is told to, a stream that is told of the rest."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.reconnects = 0
        self.known: dict[str, Known] = {}
        self.silent = False
        self.asked = 0
        self.begun: list[str] = []
        self.handled: list[bytes] = []
        self.settled: list[bytes] = []
        self.doubts = Doubts(
            self._handle, self, lambda: self.reconnects, patience_s=0.01, clock=self.clock
        )

    async def states(self, tenant: str, task_ids: Sequence[str]) -> dict[str, Known]:
        assert tenant == "acme"
        self.asked += 1
        if self.silent:
            raise Unavailable("the ledger is away")
        return {task_id: self.known[task_id] for task_id in task_ids if task_id in self.known}

    async def _handle(self, deliveries: list[Delivery]) -> list[Outcome]:
        for delivery in deliveries:
            self.handled.append(delivery.data)
            with suppress(msgspec.MsgspecError):
                self.begun += [command.task_id for command in commands_in(delivery.data)]
        return [ACK] * len(deliveries)

    def knows(self, task_id: str, state: TaskState, attempt: int = 1) -> None:
        self.known[task_id] = Known(task_id=task_id, state=state, attempt=attempt)

    async def give(self, data: bytes, *, times: int = 1, ago: timedelta = -EARLIER) -> Outcome:
        """Deliver a bundle, by default one that was published just now; gives what is answered."""
        at = int((self.clock.now() - ago).timestamp() * 1e9)
        reply = f"$JS.ACK.OCTARM_DISPATCH.arm-run-one.{times}.7.7.{at}.0"
        message = Msg(_client=None, subject="run", reply=reply, data=data)  # type: ignore[arg-type]
        delivery = Delivery(message, lambda _, body: self.settled.append(body), self._again)
        return (await self.doubts([delivery]))[0]

    def _again(self, delivery: Delivery) -> None:
        self.again = asyncio.ensure_future(self.doubts([delivery]))


async def test_what_is_new_is_begun_at_once() -> None:
    scene, command = Scene(), a_command()

    assert await scene.give(delivered(command).data) is ACK

    assert (scene.begun, scene.asked) == ([command.task_id], 0)


async def test_of_a_bundle_that_comes_again_only_what_nobody_has_begun_is_begun() -> None:
    scene, commands = Scene(), [a_command() for _ in range(5)]
    runs, over, later, placed, fresh = (command.task_id for command in commands)
    scene.knows(runs, TaskState.RUNNING)
    scene.knows(over, TaskState.COMPLETED)
    scene.knows(later, TaskState.QUEUED, attempt=2)
    scene.knows(placed, TaskState.DISPATCHED)

    assert await scene.give(delivered(*commands).data, times=2) is HELD
    await wait_until(lambda: scene.begun)

    assert scene.begun == [placed, fresh]
    assert scene.asked == 2


async def test_what_all_has_begun_elsewhere_is_acknowledged() -> None:
    scene, command = Scene(), a_command()
    scene.knows(command.task_id, TaskState.RUNNING)

    assert await scene.give(delivered(command).data, times=2) is HELD
    await wait_until(lambda: scene.settled)

    assert (scene.settled, scene.begun) == ([b"+ACK"], [])


async def test_a_beginning_that_is_told_a_moment_later_counts() -> None:
    scene, command = Scene(), a_command()
    scene.knows(command.task_id, TaskState.QUEUED)

    await scene.give(delivered(command).data, times=2)
    await wait_until(lambda: scene.asked == 1)
    scene.knows(command.task_id, TaskState.RUNNING)
    await wait_until(lambda: scene.settled)

    assert (scene.settled, scene.begun) == ([b"+ACK"], [])


async def test_what_is_older_than_the_connection_is_in_doubt() -> None:
    scene, old, fresh = Scene(), a_command(), a_command()
    before = await scene.give(delivered(old).data, ago=EARLIER)
    scene.clock.advance(60)
    sure = await scene.give(delivered(fresh).data, ago=EARLIER)
    scene.reconnects += 1

    after = await scene.give(delivered(a_command()).data, ago=EARLIER)

    assert (before, sure, after) == (HELD, ACK, HELD)
    await wait_until(lambda: len(scene.begun) == 3)


async def test_a_ledger_that_is_silent_holds_nothing_up() -> None:
    scene, command = Scene(), a_command()
    scene.silent = True

    await scene.give(delivered(command).data, times=2)
    await wait_until(lambda: scene.begun)

    assert scene.begun == [command.task_id]


async def test_what_cannot_be_read_is_left_to_whom_it_is_for() -> None:
    scene = Scene()

    await scene.give(b"{", times=2)
    await wait_until(lambda: scene.handled)

    assert scene.handled == [b"{"]


async def test_what_is_in_doubt_goes_back_when_the_arm_leaves() -> None:
    scene = Scene()
    await scene.give(delivered(a_command()).data, times=2)

    scene.doubts.close()

    assert (scene.settled, scene.begun) == ([b"-NAK"], [])
