"""Where the retry policies of arms are found: in what each declared."""

import time
from collections.abc import Collection, Mapping
from typing import Final

from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from octarm.common.telemetry.logs import get_logger
from octarm.models.arms import ArmRecord
from octarm.models.contracts import RetryPolicy
from octarm.models.subjects import ARMS_BUCKET

KNOWN_FOR_S: Final = 30.0
MISSED_FOR_S: Final = 5.0
TIMEOUT_S: Final = 1.0
MAX_ARMS: Final = 10_000
_UNSAID: Final = RetryPolicy()

log = get_logger()


class ArmPolicies:
    """The policies of registered arms; each is read from the directory twice a minute at most.

    Without an answer the arm has none: a failure is handled by the default, never held up.
    """

    def __init__(self, nc: NATS) -> None:
        self._js = nc.jetstream(timeout=TIMEOUT_S)
        self._bucket: KeyValue | None = None
        self._known: dict[str, tuple[float, RetryPolicy | None]] = {}

    async def __call__(self, arm_ids: Collection[str]) -> Mapping[str, RetryPolicy]:
        """Give what is known, asking for the rest."""
        found = {arm_id: await self._of(arm_id) for arm_id in arm_ids}
        return {arm_id: policy for arm_id, policy in found.items() if policy is not None}

    async def _of(self, arm_id: str) -> RetryPolicy | None:
        until, policy = self._known.get(arm_id, (0.0, None))
        now = time.monotonic()
        if now < until:
            return policy
        if len(self._known) >= MAX_ARMS:
            self._known.clear()
        try:
            if self._bucket is None:
                self._bucket = await self._js.key_value(ARMS_BUCKET)
            entry = await self._bucket.get(arm_id)
            policy = ArmRecord.model_validate_json(entry.value or b"").arm.retry_policy
            # Every record has one: what nobody changed says nothing.
            self._known[arm_id] = (now + KNOWN_FOR_S, None if policy == _UNSAID else policy)
        except (KeyNotFoundError, ValidationError):
            self._known[arm_id] = (now + KNOWN_FOR_S, None)
        except (NatsError, OSError, TimeoutError) as error:
            log.debug("arm_policy_unknown", arm_id=arm_id, error=repr(error))
            self._known[arm_id] = (now + MISSED_FOR_S, policy)
        return self._known[arm_id][1]
