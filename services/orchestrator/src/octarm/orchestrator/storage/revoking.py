"""Taking attempts back: out of DISPATCH when nobody fetched them, else by word to the arm."""

import asyncio
from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from octarm.common.telemetry.logs import get_logger
from octarm.models.commands import CancelAttempt
from octarm.models.subjects import CONTROL, DISPATCH, dispatch_msg_id
from octarm.orchestrator.usecases.record import Revocation

TIMEOUT_S: Final = 2.0
AT_ONCE: Final = 100

log = get_logger()


class BusRevoker:
    """Revokes over NATS; failing is harmless, for the ledger fences by attempt."""

    def __init__(self, nc: NATS) -> None:
        self._nc = nc
        self._js = nc.jetstream(timeout=TIMEOUT_S)

    async def __call__(self, revocations: Sequence[Revocation]) -> None:
        """Revoke each; what the bus does not take is logged.

        Side by side: the caller has other work, and a bus that is away costs each two seconds.
        """
        for start in range(0, len(revocations), AT_ONCE):
            some = revocations[start : start + AT_ONCE]
            await asyncio.gather(*(self._revoke(item) for item in some))

    async def _revoke(self, item: Revocation) -> None:
        message = CancelAttempt(task_id=item.task_id, attempt=item.attempt, reason=item.reason)
        try:
            if item.dispatch_seq:
                await self._delete(item, item.dispatch_seq)
            await self._nc.publish(
                CONTROL.at(arm_id=item.arm_id), message.model_dump_json().encode()
            )
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("not_revoked", task_id=item.task_id, error=repr(error))

    async def _delete(self, item: Revocation, seq: int) -> None:
        try:
            # A stream that was made anew has given the number to somebody else's command.
            message = await self._js.get_msg(DISPATCH, seq)
            headers = message.headers or {}
            if headers.get("Nats-Msg-Id") == dispatch_msg_id(item.task_id, item.attempt):
                await self._js.delete_msg(DISPATCH, seq)
        except APIError:
            log.debug("run_command_gone", seq=seq)
