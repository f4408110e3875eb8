"""Ask the arm registry: register, deregister, drain, show and find arms."""

from collections.abc import Iterable
from dataclasses import dataclass

from nats.aio.client import Client

from octarm.common.bus.requests import ask
from octarm.models import subjects
from octarm.models.arms import ArmCapability, ArmRecord
from octarm.models.queries import ArmKey, FindArms, RegisterArm


@dataclass(frozen=True, slots=True)
class ArmRegistryClient:
    """Requests to the arm registry over a connection that somebody else closes.

    Each method raises the `OctarmError` that was answered, or `Unavailable` when nobody
    answers within `timeout_s` seconds. `key` proves ownership of an arm; empty for unowned.
    """

    nc: Client
    timeout_s: float = 5.0

    async def register(self, arm: ArmCapability, key: str = "") -> ArmRecord:
        """Make an arm known, or update it; idempotent.

        Raises:
            Forbidden, Conflict: the arm belongs to another key.
        """
        message = RegisterArm(arm=arm, key=key)
        return await ask(self.nc, subjects.REGISTER_ARM, message, timeout_s=self.timeout_s)

    async def deregister(self, arm_id: str, key: str = "") -> bool:
        """Forget an arm; tell whether there was one."""
        message = ArmKey(arm_id=arm_id, key=key)
        done = await ask(self.nc, subjects.DEREGISTER_ARM, message, timeout_s=self.timeout_s)
        return done.changed

    async def drain(self, arm_id: str, key: str = "") -> ArmRecord:
        """Place no more work on an arm; what it runs is finished. Idempotent."""
        message = ArmKey(arm_id=arm_id, key=key)
        return await ask(self.nc, subjects.DRAIN_ARM, message, timeout_s=self.timeout_s)

    async def get(self, arm_id: str) -> ArmRecord:
        """Show one arm.

        Raises:
            NotFound: nobody registered it.
        """
        message = ArmKey(arm_id=arm_id)
        return await ask(self.nc, subjects.GET_ARM, message, timeout_s=self.timeout_s)

    async def find(self, capabilities: Iterable[str] = ()) -> list[ArmRecord]:
        """List the arms that have every one of these tags, by id; none given: all arms."""
        message = FindArms(capabilities=list(capabilities))
        found = await ask(self.nc, subjects.FIND_ARMS, message, timeout_s=self.timeout_s)
        return found.arms
