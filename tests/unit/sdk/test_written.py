"""The result of an attempt waits for what the attempt wrote fast."""

import asyncio
from typing import Any

import pytest

from octarm.clients.write_behind import Behind, Window
from octarm.models.contracts import TaskContract
from octarm.models.errors import Conflict
from octarm.models.ids import new_id
from octarm.sdk.context import Context
from tests.support.wait import wait_until
from tests.support.workers import Arrangement, a_command, code_of, delivered


class Writing:
    """A handler that leaves one write under way."""

    def __init__(self, error: Exception | None = None) -> None:
        self.windows: list[Window] = []
        self._error = error

    async def __call__(self, task: TaskContract, ctx: Context) -> dict[str, Any]:
        window = Window(new_id("epi"), ctx.memory.behind)
        window.take(1)
        self.windows.append(window)
        if self._error is not None:
            raise self._error
        return {"done": True}


class TestWritten:
    async def test_no_result_is_sent_before_the_writes_are_answered(self) -> None:
        handler = Writing()
        arrangement = Arrangement(handler)
        await arrangement.deliver(delivered(a_command()))
        await wait_until(lambda: handler.windows)
        await asyncio.sleep(0)
        early = list(arrangement.published)

        handler.windows[0].answered(1, None)
        result = await arrangement.result()
        await arrangement.worker.drain(0)

        assert early == []
        assert result.status == "success"

    async def test_a_success_whose_writes_are_refused_is_a_failure(self) -> None:
        handler = Writing()
        arrangement = Arrangement(handler)
        await arrangement.deliver(delivered(a_command()))
        await wait_until(lambda: handler.windows)

        handler.windows[0].answered(1, Conflict("closed", code="EPISODE_CLOSED"))
        result = await arrangement.result()
        await arrangement.worker.drain(0)

        assert code_of(result) == "EPISODE_CLOSED"

    async def test_the_handler_s_own_failure_stays_the_reason(self) -> None:
        handler = Writing(Conflict("mine", code="MINE"))
        arrangement = Arrangement(handler)
        await arrangement.deliver(delivered(a_command()))
        await wait_until(lambda: handler.windows)

        handler.windows[0].answered(1, Conflict("closed"))
        result = await arrangement.result()
        await arrangement.worker.drain(0)

        assert code_of(result) == "MINE"

    async def test_one_that_is_cancelled_meanwhile_is_cut_off(self) -> None:
        handler = Writing()
        arrangement = Arrangement(handler, cut_off_after_s=0.01)
        command = a_command()
        await arrangement.deliver(delivered(command))
        await wait_until(lambda: handler.windows)

        arrangement.cancel(command)
        result = await arrangement.result()
        await arrangement.worker.drain(0)

        assert code_of(result) == "CANCELLED"


async def test_all_episodes_are_waited_for_and_the_first_refusal_is_told() -> None:
    behind = Behind()
    one, other = Window("epi_1", behind), Window("epi_2", behind)
    for window in (one, other):
        window.take(1)
    one.answered(1, Conflict("first"))
    waiting = asyncio.create_task(behind.flushed())
    await asyncio.sleep(0)
    early = waiting.done()
    other.answered(1, None)

    with pytest.raises(Conflict, match="first"):
        await waiting
    assert not early
    assert behind.windows == set()
