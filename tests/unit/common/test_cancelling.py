"""A task that forgets a cancellation is cancelled again."""

import asyncio

from octarm.common.cancelling import end


async def _forgets_the_first(seen: list[str]) -> None:
    for number in ("first", "second"):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(number)
    raise asyncio.CancelledError


async def test_a_task_that_forgets_a_cancellation_is_cancelled_again() -> None:
    seen: list[str] = []
    task = asyncio.create_task(_forgets_the_first(seen))
    await asyncio.sleep(0)

    await end(task, again_after_s=0.01)

    assert seen == ["first", "second"]
    assert task.cancelled()


async def test_a_task_that_has_ended_is_left_alone() -> None:
    task = asyncio.create_task(asyncio.sleep(0, "done"))
    await task

    await end(task)

    assert task.result() == "done"


async def test_what_a_task_raises_while_it_ends_is_not_raised_here() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)

    await end(task)

    assert isinstance(task.exception(), ValueError)


async def test_nothing_to_end_is_no_error() -> None:
    await end()
