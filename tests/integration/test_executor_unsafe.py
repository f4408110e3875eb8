"""Running without isolation: the limits still hold."""

import asyncio
import time

import pytest

from octarm.executor.limits import Limits
from octarm.executor.sandbox import Unsafe
from tests.support.sandbox_jobs import a_shell_line, a_snippet

pytestmark = pytest.mark.integration


async def test_runs_in_a_folder_of_its_own_without_the_arms_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCTARM_LLM_API_KEY", "sk-very-secret")

    outcome = await Unsafe().run(a_shell_line("cat f; pwd; env", {"f": b"text\n"}), Limits())

    assert outcome.stdout.startswith("text\n/")
    assert "very-secret" not in outcome.stdout


async def test_runs_a_snippet() -> None:
    outcome = await Unsafe().run(a_snippet("print(6 * 7)"), Limits())

    assert outcome.stdout == "42\n"


async def test_ends_the_whole_group_at_a_limit() -> None:
    outcome = await Unsafe().run(a_shell_line("sleep 60 & sleep 60"), Limits(wall_s=0.3))

    assert outcome.limit == "time"
    assert outcome.duration_ms < 30_000


async def test_does_not_wait_for_a_child_that_left_the_group() -> None:
    started = time.monotonic()

    outcome = await Unsafe().run(a_shell_line("setsid sleep 60 & echo out"), Limits())

    assert outcome.stdout == "out\n"
    assert time.monotonic() - started < 30


async def test_is_gone_when_the_caller_is_cancelled() -> None:
    run = asyncio.create_task(Unsafe().run(a_shell_line("sleep 60"), Limits()))
    await asyncio.sleep(0)

    run.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(run, 60)
