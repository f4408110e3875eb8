"""How an arm makes itself known and shows that it lives."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from octarm.common.cancelling import end
from octarm.common.clock import set_within
from octarm.common.telemetry import get_logger
from octarm.models import hot
from octarm.models.arms import ArmCapability, ArmRecord
from octarm.models.errors import NotFound, OctarmError
from octarm.models.subjects import HEARTBEAT

FIRST_BACKOFF_S: Final = 0.2
MAX_BACKOFF_S: Final = 5.0
GATHER_S: Final = 0.05

log = get_logger()
_encode = msgspec.json.Encoder().encode


class Registry(Protocol):
    """The part of the registry's client that is needed."""

    async def register(self, arm: ArmCapability, key: str = "") -> ArmRecord:
        """Make an arm known, or update it; idempotent."""
        ...

    async def get(self, arm_id: str) -> ArmRecord:
        """Show one arm; raises NotFound when nobody registered it."""
        ...

    @property
    def forgotten(self) -> int:
        """How many arms of this process it has not known, each time one has asked."""
        ...


class Presence:
    """Registers the arm, again when the registry has forgotten it, and beats.

    `state` gives the next heartbeat, `send(subject, payload)` publishes on core NATS.
    """

    def __init__(
        self,
        registry: Registry,
        arm: ArmCapability,
        *,
        key: str,
        state: Callable[[], hot.Heartbeat],
        send: Callable[[str, bytes], Awaitable[None]],
        interval_s: float,
        beats_per_check: int = 6,
        beats_before: int = 0,
    ) -> None:
        self._registry = registry
        self._arm = arm
        self._key = key
        self._state = state
        self._send = send
        self._interval_s = interval_s
        self._beats_per_check = beats_per_check
        self._beats = beats_before
        self._hurry = asyncio.Event()
        self.registered = False

    async def register(self) -> None:
        """Register, trying again until the registry answers.

        Raises:
            OctarmError: the registry refuses the arm for good, such as for another owner's key.
        """
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                await self._registry.register(self._arm, self._key)
            except OctarmError as error:
                if not error.retryable:
                    raise
                log.warning("not_registered_yet", error=error.message, again_in_s=backoff_s)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
            else:
                self.registered = True
                log.info("arm_registered", arm_id=self._arm.arm_id)
                return

    async def run(self) -> None:
        """Beat until cancelled; now and then ask whether the registry knows the arm.

        That is after each `beats_per_check`, of which `beats_before` are left out at first, and
        with the next beat once it has not known another arm of this process. Beats do not wait
        for the answer: a registry that stands still must not make the arm look dead.
        """
        forgotten = self._registry.forgotten
        checking: asyncio.Task[None] | None = None
        try:
            while True:
                await self.beat()
                self._beats += 1
                due = self._beats % self._beats_per_check == 0
                due = due or forgotten != self._registry.forgotten
                if due and (checking is None or checking.done()):
                    if checking is not None:
                        checking.result()
                    forgotten = self._registry.forgotten
                    checking = asyncio.create_task(self._check())
                if await set_within(self._hurry, self._interval_s):
                    # What comes within this time goes with one beat.
                    await asyncio.sleep(min(GATHER_S, self._interval_s))
                    self._hurry.clear()
        finally:
            if checking is not None:
                await end(checking)

    def hurry(self) -> None:
        """Let the next beat come soon: it has news."""
        self._hurry.set()

    async def beat(self) -> None:
        """Send one heartbeat now."""
        state = self._state()
        subject = HEARTBEAT.at(arm_id=state.arm_id, instance_id=state.instance_id)
        await self._send(subject, _encode(state))

    async def _check(self) -> None:
        try:
            await self._registry.get(self._arm.arm_id)
        except NotFound:
            self.registered = False
            log.warning("arm_forgotten", arm_id=self._arm.arm_id)
            await self._register_again()
        except OctarmError as error:
            log.debug("registry_silent", error=error.message)

    async def _register_again(self) -> None:
        try:
            await self._registry.register(self._arm, self._key)
            self.registered = True
        except OctarmError as error:
            # The beat goes on: what runs keeps its leases, and the next check tries again.
            log.error("not_registered_again", error=error.message)
