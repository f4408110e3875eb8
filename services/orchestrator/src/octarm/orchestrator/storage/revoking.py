"""Taking attempts back: out of DISPATCH when nobody fetched them, else by word to the arm."""

import asyncio
from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from octarm.common.bus.topology import arm_durable
from octarm.common.telemetry.logs import get_logger
from octarm.models.commands import CancelAttempt
from octarm.models.scalars import MAX_INT
from octarm.models.subjects import CONTROL, DISPATCH, dispatch_msg_id
from octarm.orchestrator.usecases.record import Revocation

Key = tuple[str, int]
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
            await asyncio.gather(*(self._take_back(item) for item in some))

    async def withdraw(self, items: Sequence[Revocation]) -> set[Key]:
        """Take back run commands and tell the arms; gives the attempts no arm can have read.

        A command that was delivered may be starting while its acknowledgement is on its way,
        so taking it out of the stream proves nothing; that the arm's consumer had not come to
        it does, unless the stream is another than the one that gave the number.
        """
        gone: list[Revocation] = []
        for start in range(0, len(items), AT_ONCE):
            some = items[start : start + AT_ONCE]
            answers = await asyncio.gather(*(self._take_back(item) for item in some))
            gone += [item for item, taken in zip(some, answers, strict=True) if taken]
        if not gone:
            return set()
        written = await self._written_up_to()
        read = {arm_id: await self._read_up_to(arm_id) for arm_id in {i.arm_id for i in gone}}
        return {
            (item.task_id, item.attempt)
            for item in gone
            if item.dispatch_seq is not None and read[item.arm_id] < item.dispatch_seq <= written
        }

    async def _take_back(self, item: Revocation) -> bool:
        message = CancelAttempt(task_id=item.task_id, attempt=item.attempt, reason=item.reason)
        try:
            taken = bool(item.dispatch_seq) and await self._delete(item, item.dispatch_seq or 0)
            await self._nc.publish(
                CONTROL.at(arm_id=item.arm_id), message.model_dump_json().encode()
            )
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("not_revoked", task_id=item.task_id, error=repr(error))
            return False
        return taken

    async def _read_up_to(self, arm_id: str) -> int:
        """Give the sequence up to which the arm's commands may have been delivered."""
        try:
            info = await self._js.consumer_info(DISPATCH, arm_durable(arm_id))
        except (NatsError, OSError, TimeoutError):
            return MAX_INT
        return info.delivered.stream_seq if info.delivered else 0

    async def _written_up_to(self) -> int:
        """Give the newest sequence: one above it is of a stream that is no more."""
        try:
            return int((await self._js.stream_info(DISPATCH)).state.last_seq)
        except (NatsError, OSError, TimeoutError):
            return 0

    async def _delete(self, item: Revocation, seq: int) -> bool:
        """Delete a run command; tells whether it is not in the stream now."""
        try:
            message = await self._js.get_msg(DISPATCH, seq)
            headers = message.headers or {}
            # A stream that was made anew has given the number to somebody else's command.
            if headers.get("Nats-Msg-Id") != dispatch_msg_id(item.task_id, item.attempt):
                return False
            await self._js.delete_msg(DISPATCH, seq)
        except NotFoundError:
            return True
        except APIError as error:
            log.debug("run_command_left", seq=seq, error=str(error))
            return False
        return True
