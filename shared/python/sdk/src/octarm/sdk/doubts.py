"""Commands that another instance of the arm may have begun already.

nats-server writes down late what has been acknowledged: one that was killed gives out again what
it gave out last, and nobody else remembers who has begun it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from octarm.common.bus.delivery import HELD, Delivery
from octarm.common.bus.delivery import Outcome as Done
from octarm.common.clock import Clock, SystemClock
from octarm.common.telemetry import get_logger
from octarm.models.errors import OctarmError
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.queries import Outcome
from octarm.models.states import TaskState
from octarm.sdk.fates import AsksStates
from octarm.sdk.inbox import Command, commands_in, message_of

# Longer than an instance takes to say what it has begun, once its connection is back.
PATIENCE_S: Final = 1.0
NOT_BEGUN: Final = frozenset({TaskState.QUEUED, TaskState.DISPATCHED})

Handler = Callable[[list[Delivery]], Awaitable[Sequence[Done]]]

log = get_logger()


class _Owned(msgspec.Struct):
    tenant: str


_owner = msgspec.json.Decoder(_Owned).decode


class Doubts:
    """Lets those commands through to `handle` that nobody has begun.

    In doubt is what was delivered before, or published before the connection was made or made
    again; `reconnects` counts the latter. The ledger is asked about it, twice: whoever has begun
    it says so within `patience_s` seconds. A clock that is behind nats-server's lets some pass.
    """

    def __init__(
        self,
        handle: Handler,
        ledger: AsksStates,
        reconnects: Callable[[], int],
        *,
        patience_s: float = PATIENCE_S,
        clock: Clock | None = None,
    ) -> None:
        self._handle = handle
        self._ledger = ledger
        self._reconnects = reconnects
        self._patience_s = patience_s
        self._clock = clock or SystemClock()
        self._seen = reconnects()
        self._since = self._clock.now()
        self._cleared: set[Delivery] = set()
        self._asking: dict[asyncio.Task[None], Delivery] = {}

    async def __call__(self, deliveries: list[Delivery]) -> Sequence[Done]:
        """Handle a batch; what is in doubt is held, and comes again when the ledger has spoken."""
        doubtful = {delivery for delivery in deliveries if self._concern(delivery)}
        if not doubtful:
            return await self._handle(deliveries)
        for delivery in doubtful:
            asking = asyncio.create_task(self._clear(delivery))
            self._asking[asking] = delivery
            asking.add_done_callback(self._asking.pop)
        sure = [delivery for delivery in deliveries if delivery not in doubtful]
        done = dict(zip(sure, await self._handle(sure), strict=True)) if sure else {}
        return [done.get(delivery, HELD) for delivery in deliveries]

    def close(self) -> None:
        """Ask no more; what is in doubt goes back to the stream."""
        for asking, delivery in self._asking.items():
            asking.cancel()
            delivery.retry()

    def _concern(self, delivery: Delivery) -> bool:
        if delivery in self._cleared:
            self._cleared.discard(delivery)
            return False
        if (reconnects := self._reconnects()) != self._seen:
            self._seen, self._since = reconnects, self._clock.now()
        return delivery.deliveries > 1 or delivery.published_at < self._since

    async def _clear(self, delivery: Delivery) -> None:
        try:
            commands = commands_in(delivery.data)
        except NOT_UNDERSTOOD:
            commands = []  # Whoever handles it says why it is dead.
        if commands:
            left = await self._not_begun(commands)
            if begun := len(commands) - len(left):
                log.info("attempts_begun_before", number=begun)
            if not left:
                delivery.ack()
                return
            delivery.data = message_of(left)
        self._cleared.add(delivery)
        delivery.again()

    async def _not_begun(self, commands: Sequence[Command]) -> list[Command]:
        left = await self._ask(commands)
        if left:
            await asyncio.sleep(self._patience_s)
            left = await self._ask(left)
        return left

    async def _ask(self, commands: Sequence[Command]) -> list[Command]:
        """Give the commands of which the ledger knows no beginning; a silent one knows of none."""
        tenants: dict[str, list[Command]] = {}
        for command in commands:
            # Whoever starts a command says what is wrong with its task.
            with suppress(*NOT_UNDERSTOOD):
                tenants.setdefault(_owner(command.task).tenant, []).append(command)
        known: dict[str, Outcome] = {}
        for tenant, own in tenants.items():
            try:
                known |= await self._ledger.states(tenant, [one.task_id for one in own])
            except OctarmError as error:
                log.warning("ledger_not_asked", error=error.message)
        return [one for one in commands if _may_begin(one, known.get(one.task_id))]


def _may_begin(command: Command, outcome: Outcome | None) -> bool:
    if outcome is None:
        return True
    return outcome.attempt == command.attempt and outcome.state in NOT_BEGUN
