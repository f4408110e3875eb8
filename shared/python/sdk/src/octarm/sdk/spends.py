"""Calls that were paid for, told before their attempt ends: its death must not make them free."""

import asyncio
from typing import Final, Protocol

import msgspec

from octarm.common.bus.publisher import Outgoing
from octarm.common.telemetry import get_logger
from octarm.models import hot
from octarm.models.commands import MAX_BATCH
from octarm.models.subjects import SPEND_REPORTED
from octarm.sdk.spending import Call

GATHER_S: Final = 0.005
MAX_WAITING: Final = 1000

log = get_logger()
_encode = msgspec.json.Encoder().encode


class SendsReports(Protocol):
    """Where reports of spend go."""

    def put_report(self, message: Outgoing) -> None:
        """Publish what is kept until it is acknowledged."""
        ...

    def waiting(self) -> int:
        """Count what has not been acknowledged."""
        ...


class Spends:
    """Reports calls, put together for five milliseconds, at most 64 a message.

    While more than 1,000 messages wait for the bus, single calls are not told: their
    attempt's result tells the total.
    """

    def __init__(self, outbox: SendsReports, *, arm_id: str, instance_id: str) -> None:
        self._outbox = outbox
        self._arm_id = arm_id
        self._instance_id = instance_id
        self._subject = SPEND_REPORTED.at(arm_id=arm_id)
        self._calls: list[hot.CallSpend] = []
        self._timer: asyncio.TimerHandle | None = None

    def put(self, task_id: str, attempt: int, call: Call) -> None:
        """Report a call soon."""
        if self._outbox.waiting() > MAX_WAITING:
            log.warning("call_not_told", task_id=task_id, attempt=attempt, call_no=call.call_no)
            return
        self._calls.append(
            hot.CallSpend(
                task_id, attempt, call.call_no, call.tokens, call.micro_dollars, call.llm_calls
            )
        )
        if len(self._calls) >= MAX_BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self.flush)

    def flush(self) -> None:
        """Hand over what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._calls:
            calls, self._calls = self._calls, []
            report = hot.SpendReported(self._arm_id, self._instance_id, calls)
            msg_id = f"s:{_name(calls[0])}:{_name(calls[-1])}:{len(calls)}"
            self._outbox.put_report(Outgoing(self._subject, _encode(report), msg_id))


def _name(call: hot.CallSpend) -> str:
    return f"{call.task_id}:{call.attempt}:{call.call_no}"
