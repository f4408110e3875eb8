"""The rows of the crash table: which process dies at which line, under which load."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import nats
import psutil

from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.failpoints import Name
from octarm.models.subjects import DISPATCH, DLQ, RESULT, RUN_TASKS
from tests.chaos.load import Load
from tests.chaos.stage import RENEWED_S, Stage
from tests.support.crashing_arm import NAME
from tests.support.wait import wait_until

TASKS: Final = 200
CHAINS: Final = 20
REJECTED: Final = 50
FIRES_WITHIN_S: Final = 30.0
POISON: Final = b"no result at all"


@dataclass(slots=True)
class Strike:
    """One crash: `at` is when it happened (monotonic), 0 before."""

    at: float = 0.0

    async def watch(self, happened: Callable[[], bool]) -> None:
        """Note when it happens.

        Raises:
            AssertionError: the line was never reached.
        """
        await wait_until(happened, FIRES_WITHIN_S)
        self.at = time.monotonic()


Storm = Callable[[Stage, Load, Strike], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its number in the table, who dies, where, and what goes on meanwhile."""

    number: str
    process: str
    point: Name | None
    action: str
    storm: Storm

    @property
    def name(self) -> str:
        """As the tests are called."""
        return f"{self.number}-{self.process}-{self.point or 'message-lost'}"


async def plain(stage: Stage, load: Load, _: Strike) -> None:
    """Tasks, some of which fail at first, and tasks that wait for others."""
    await load.submit(TASKS)
    await load.submit_chains(CHAINS)


async def by_bus(stage: Stage, load: Load, _: Strike) -> None:
    """The same, from a publisher that does not wait for answers."""
    await load.submit_by_bus(stage.stack.urls.nats, TASKS)


async def by_http(stage: Stage, load: Load, _: Strike) -> None:
    """The same, through the gateway."""
    await load.submit_by_http(stage.stack.urls.gateway, TASKS // 2)


async def spending(stage: Stage, load: Load, _: Strike) -> None:
    """Tasks that book three calls of a model each."""
    await load.submit(TASKS, context={"calls": 3})


async def cancelling(stage: Stage, load: Load, _: Strike) -> None:
    """Half of the tasks are called off while they end by themselves."""
    tasks = await load.submit(TASKS)
    await load.cancel(tasks[::2])


async def rejecting(stage: Stage, load: Load, _: Strike) -> None:
    """What no arm takes is rejected, by somebody who asks, as schedulers do, until he is told."""
    unwanted = await load.submit(REJECTED, assigned_arm="nobody")
    await load.submit(TASKS)
    await load.reject(unwanted)


async def arm_dies(stage: Stage, load: Load, _: Strike) -> None:
    """Both instances of the arm are killed while they run tasks, so leases run out."""
    before = stage.runs()
    await load.submit(TASKS, context={"nap_s": 1.0})
    await wait_until(lambda: stage.runs() > before + 50, FIRES_WITHIN_S)
    for role in (NAME, f"{NAME}-2"):
        stage.signal(role, signal.SIGKILL)
    await load.submit_chains(CHAINS)


async def scheduler_dies(stage: Stage, load: Load, _: Strike) -> None:
    """The scheduler is killed, and the next one as soon as it has taken over."""
    await load.submit(TASKS)
    stage.signal("scheduler", signal.SIGKILL)
    await load.submit_chains(CHAINS)


async def registering(stage: Stage, load: Load, _: Strike) -> None:
    """A new arm registers while tasks run; the registry dies with the entry written."""
    await load.submit(TASKS)
    await _forget(stage)
    await load.submit_chains(CHAINS)


async def _forget(stage: Stage) -> None:
    connection = await nats.connect(stage.stack.urls.nats)
    try:
        bucket = await connection.jetstream().key_value("octarm_arms")
        await bucket.delete(NAME)
    finally:
        await connection.close()


async def resumed(stage: Stage, load: Load, strike: Strike) -> None:
    """One instance stands still for longer than its lease, then goes on as if nothing were."""
    await load.submit(TASKS)
    await wait_until(lambda: _stopped(stage), FIRES_WITHIN_S)
    await asyncio.sleep(2 * RENEWED_S)
    for process in _stopped(stage):
        process.send_signal(signal.SIGCONT)
    await load.submit_chains(CHAINS)


def _stopped(stage: Stage) -> list[psutil.Process]:
    pids = stage.stack.pids()
    processes = [psutil.Process(pids[role]) for role in (NAME, f"{NAME}-2")]
    return [one for one in processes if one.status() == psutil.STATUS_STOPPED]


async def poison(stage: Stage, load: Load, strike: Strike) -> None:
    """Something that is no result arrives among the results; it is buried once."""
    connection = await nats.connect(stage.stack.urls.nats)
    try:
        js = connection.jetstream()
        before = (await js.stream_info(DLQ)).state.messages
        await load.submit(TASKS)
        message = Outgoing(RESULT.at(arm_id=NAME), POISON, f"poison-{before}")
        await Publisher(connection).publish(message)
        await load.submit_chains(CHAINS)
        # What was not terminated comes again after 30 s, is buried again, and stored once.
        await wait_until(lambda: strike.at, FIRES_WITHIN_S)
        await load.all_ended()
        assert (await js.stream_info(DLQ)).state.messages == before + 1
    finally:
        await connection.close()


async def message_lost(stage: Stage, load: Load, strike: Strike) -> None:
    """DISPATCH forgets the run commands that it has acknowledged."""
    connection = await nats.connect(stage.stack.urls.nats)
    try:
        js = connection.jetstream()
        submitting = asyncio.create_task(load.submit(3 * TASKS, context={"nap_s": 0.5}))
        lost = 0
        while lost < 20:
            info = await js.stream_info(DISPATCH, subjects_filter=RUN_TASKS.pattern)
            lost += sum((info.state.subjects or {}).values())
            await js.purge_stream(DISPATCH, subject=RUN_TASKS.pattern)
        strike.at = time.monotonic()
        await submitting
    finally:
        await connection.close()


ROWS: Final = (
    Row("1", "orchestrator", "submit_received", "exit", plain),
    Row("2", "orchestrator", "accept_before_commit", "exit", plain),
    Row("3", "orchestrator", "accept_after_commit", "exit", plain),
    Row("3", "orchestrator", "submit_before_reply", "exit", plain),
    Row("3", "gateway", "gateway_before_reply", "exit@20", by_http),
    Row("4", "orchestrator", "intake_received", "exit@2", by_bus),
    Row("5", "orchestrator", "intake_before_ack", "exit@2", by_bus),
    Row("6", "orchestrator", "relay_before_publish", "exit@2", plain),
    Row("7", "orchestrator", "puback_before_use", "exit@40", plain),
    Row("7", "scheduler", "puback_before_use", "exit@3", plain),
    Row("8", "orchestrator", "relay_before_delete", "exit@2", plain),
    Row("9", "scheduler", "ready_received", "exit@2", plain),
    Row("9", "scheduler", "shard_taken_over", "exit", scheduler_dies),
    Row("9", "scheduler", "shard_fenced", "exit", scheduler_dies),
    Row("10", "scheduler", "dispatch_before_ack", "exit@2", plain),
    Row("10", "orchestrator", "placements_held", "exit@2", plain),
    Row("11", "bus", None, "", message_lost),
    Row("12", NAME, "run_received", "exit@2", plain),
    Row("12b", NAME, "arm_running", "exit@2", plain),
    Row("13", NAME, "spend_booked", "exit@30", spending),
    Row("14", NAME, "arm_running", "pause@2", resumed),
    Row("15", NAME, "puback_before_use", "exit@3", plain),
    Row("16", "orchestrator", "results_before_commit", "exit@3", plain),
    Row("17", "orchestrator", "results_before_ack", "exit@3", plain),
    Row("18", "orchestrator", "cancel_after_commit", "exit@10", cancelling),
    Row("18", "orchestrator", "reject_after_commit", "exit", rejecting),
    Row("19", "orchestrator", "dlq_before_term", "exit", poison),
    Row("22", "arm-registry", "registration_before_reply", "exit", registering),
    Row("reconciler", "orchestrator", "reconcile_after_commit", "exit", arm_dies),
    Row("memory", "memory", "memory_before_ack", "exit@2", plain),
)
