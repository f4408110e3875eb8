"""Taking attempts back: out of DISPATCH when nobody fetched them, else by word to the arm."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from octarm.common.bus.topology import arm_durable
from octarm.common.telemetry.logs import get_logger
from octarm.models.commands import CancelAttempt
from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.models.scalars import MAX_INT
from octarm.models.subjects import CONTROL, DISPATCH
from octarm.orchestrator.usecases.record import Revocation

Key = tuple[str, int]
TIMEOUT_S: Final = 2.0
AT_ONCE: Final = 100
MAX_REMEMBERED: Final = 1_000

log = get_logger()


class _Attempt(msgspec.Struct):
    task_id: str
    attempt: int


class _Bundle(msgspec.Struct):
    tasks: list[_Attempt]


_decode = msgspec.json.Decoder(_Bundle).decode


class BusRevoker:
    """Revokes over NATS; failing is harmless, for the ledger fences by attempt."""

    def __init__(self, nc: NATS) -> None:
        self._nc = nc
        self._js = nc.jetstream(timeout=TIMEOUT_S)
        # What has been revoked of bundles that hold others too.
        self._revoked: dict[int, set[Key]] = {}

    async def __call__(self, revocations: Sequence[Revocation]) -> None:
        """Revoke each; what the bus does not take is logged."""
        await self._take_back(revocations)

    async def withdraw(self, items: Sequence[Revocation]) -> set[Key]:
        """Take back run commands and tell the arms; gives the attempts no arm can have read.

        A command that was delivered may be starting while its acknowledgement is on its way,
        so taking it out of the stream proves nothing; that the arm's consumer had not come to
        it does, unless the stream is another than the one that gave the number.
        """
        gone = await self._take_back(items)
        if not gone:
            return set()
        written = await self._written_up_to()
        arm_ids = sorted({item.arm_id for item in gone})
        read = {arm_id: await self._read_up_to(arm_id) for arm_id in arm_ids}
        return {
            (item.task_id, item.attempt)
            for item in gone
            if item.dispatch_seq is not None and read[item.arm_id] < item.dispatch_seq <= written
        }

    async def _take_back(self, items: Sequence[Revocation]) -> list[Revocation]:
        """Take back, side by side, for a bus that is away costs each two seconds.

        Gives those whose run command is not in the stream now.
        """
        together: dict[tuple[str, int], list[Revocation]] = {}
        for item in items:
            together.setdefault((item.arm_id, item.dispatch_seq or 0), []).append(item)
        bundles = list(together.values())
        gone: list[Revocation] = []
        for start in range(0, len(bundles), AT_ONCE):
            some = bundles[start : start + AT_ONCE]
            answers = await asyncio.gather(*(self._take_back_bundle(bundle) for bundle in some))
            for bundle, taken in zip(some, answers, strict=True):
                gone += bundle if taken else []
        return gone

    async def _take_back_bundle(self, items: list[Revocation]) -> bool:
        seq = items[0].dispatch_seq
        try:
            taken = bool(seq) and await self._delete(items, seq or 0)
            for item in items:
                message = CancelAttempt(
                    task_id=item.task_id, attempt=item.attempt, reason=item.reason
                )
                await self._nc.publish(
                    CONTROL.at(arm_id=item.arm_id), message.model_dump_json().encode()
                )
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("not_revoked", task_ids=[it.task_id for it in items], error=repr(error))
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

    async def _delete(self, items: list[Revocation], seq: int) -> bool:
        """Delete a run command all of whose attempts are revoked; tells whether it is gone.

        While others are to run it stays: the arm is told which are not.
        """
        try:
            message = await self._js.get_msg(DISPATCH, seq)
            # A stream that was made anew has given the number to somebody else's command.
            if not self._all_revoked(items, seq, message.data or b""):
                return False
            await self._js.delete_msg(DISPATCH, seq)
        except NotFoundError:
            return True
        except APIError as error:
            log.debug("run_command_left", seq=seq, error=str(error))
            return False
        self._revoked.pop(seq, None)
        return True

    def _all_revoked(self, items: list[Revocation], seq: int, body: bytes) -> bool:
        """Whether these and what was revoked before are all that the command holds."""
        try:
            held = {(task.task_id, task.attempt) for task in _decode(body).tasks}
        except NOT_UNDERSTOOD:
            return False
        revoked = {(item.task_id, item.attempt) for item in items} & held
        if not revoked:
            return False
        revoked |= self._revoked.get(seq, set()) & held
        self._revoked[seq] = revoked
        if len(self._revoked) > MAX_REMEMBERED:
            del self._revoked[next(iter(self._revoked))]
        return revoked == held
