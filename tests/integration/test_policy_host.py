"""A scheduler's cycles with policies that fail, are replaced, and are watched."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from octarm.common.testing.fakes import FakeClock
from octarm.policies.actions import Checked, Dispatch
from octarm.policies.context import ArmFacts, Context, TaskFacts
from octarm.policies.sandbox.engine import Engine
from octarm.policies.sandbox.host import Host, Verdict
from octarm.policies.sandbox.limits import Limits
from octarm.policies.supervisor import PLATFORM
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

CONTEXT = Context(1_000, (TaskFacts("t1"), TaskFacts("t2")), (ArmFacts("a", slots=2, free=2),))
GOOD = "def schedule(ctx):\n    return platform_schedule(ctx)\n"
WRONG = {
    "error": "def schedule(ctx):\n    return [ctx.nope]\n",
    "timeout": "def schedule(ctx):\n    for i in range(1000000000):\n        pass\n",
    "memory": "def schedule(ctx):\n    return list(range(len(ctx.queue) * 400000000))\n",
    "bad_return": "def schedule(ctx):\n    return 1\n",
}


@pytest_asyncio.fixture
async def host() -> AsyncIterator[Host]:
    async with Engine(Limits(call_ms=100, grace_ms=3_000, load_ms=2_000)) as engine:
        yield Host(engine, FakeClock())


def placed(verdict: Verdict) -> list[str]:
    assert verdict.checked is not None, verdict
    return [it.task for it in verdict.checked.kept if isinstance(it, Dispatch)]


async def test_leaves_the_first_cycles_to_the_platforms_own_policy(host: Host) -> None:
    assert await host.decide(CONTEXT) == Verdict(PLATFORM)


async def test_each_decision_names_the_version_that_took_it(host: Host) -> None:
    loaded = await host.deploy(GOOD)

    verdict = await host.decide(CONTEXT)

    assert verdict.policy == loaded.digest
    assert placed(verdict) == ["t1", "t2"]


async def test_an_answer_in_which_nothing_makes_sense_is_as_good_as_none(host: Host) -> None:
    bad = await host.deploy(
        "def schedule(ctx):\n    return [dispatch('nobody', 'a'), dispatch('t1', 'nowhere'), 7]\n"
    )

    verdict = await host.decide(CONTEXT)

    assert verdict.policy == bad.digest
    assert verdict.checked is None
    assert verdict.failed is not None
    assert verdict.failed.reason == "bad_return"
    assert "none of its actions holds: nobody is not in the window" in verdict.failed.traceback


async def test_an_answer_that_meets_full_arms_only_is_an_answer(host: Host) -> None:
    await host.deploy("def schedule(ctx):\n    return [dispatch(t, 'a') for t in ctx.queue]\n")
    full = msgspec.structs.replace(CONTEXT, arms=(ArmFacts("a", slots=2, free=0),))

    verdict = await host.decide(full)

    assert verdict.checked is not None
    assert [it.kind for it in verdict.checked.dropped] == ["arm_full", "arm_full"]


@pytest.mark.parametrize("reason", WRONG)
async def test_a_failing_version_is_taken_back_after_three_cycles(host: Host, reason: str) -> None:
    good = await host.deploy(GOOD)
    await host.decide(CONTEXT)
    bad = await host.deploy(WRONG[reason])

    failing = [await host.decide(CONTEXT) for _ in range(3)]

    assert [it.policy for it in failing] == [bad.digest] * 3
    assert {it.failed.reason for it in failing if it.failed} == {reason}
    assert all(it.checked is None for it in failing)
    assert failing[2].switched is not None
    assert failing[2].switched.now == good.digest
    assert host.supervisor.failures == {(bad.digest, reason): 3}
    assert placed(await host.decide(CONTEXT)) == ["t1", "t2"]


async def test_a_version_is_not_taken_back_for_lack_of_a_process() -> None:
    async with Engine(Limits(grace_ms=100), children=1) as engine:
        host = Host(engine, FakeClock())
        good = await host.deploy(GOOD)
        (child,) = engine.pids
        os.kill(child, signal.SIGSTOP)

        verdicts = await asyncio.gather(*[host.decide(CONTEXT) for _ in range(5)])

    reasons = [it.failed.reason for it in verdicts if it.failed]
    assert sorted(reasons) == ["timeout", *["unavailable"] * 4]
    assert host.supervisor.active == good.digest


async def test_a_source_with_an_error_is_not_deployed(host: Host) -> None:
    good = await host.deploy(GOOD)

    bad = await host.deploy("def schedule(ctx):\n    return nope\n")

    assert not bad.ok
    assert host.supervisor.active == good.digest


async def test_fifty_versions_are_deployed_while_cycles_go_on(host: Host) -> None:
    await host.deploy(GOOD)
    verdicts: list[Verdict] = []
    done = asyncio.Event()

    async def cycles() -> None:
        while not done.is_set():
            verdicts.append(await host.decide(CONTEXT))

    running = asyncio.create_task(cycles())
    versions = []
    for n in range(50):
        loaded = await host.deploy(
            f"def schedule(ctx):\n    return [dispatch(ctx.queue[0], ctx.arms[0], '{n}')]\n"
        )
        versions.append(loaded.digest)
        await wait_until(lambda: bool(verdicts) and verdicts[-1].policy == versions[-1])
    done.set()
    await running

    assert all(it.failed is None for it in verdicts)
    for verdict in verdicts:
        assert verdict.checked is not None
        if verdict.policy in versions:
            (action,) = verdict.checked.kept
            assert isinstance(action, Dispatch)
            assert versions[int(action.reason)] == verdict.policy
    seen = list(dict.fromkeys(it.policy for it in verdicts))
    assert [it for it in seen if it in versions] == versions


async def test_a_shadow_is_counted_and_changes_nothing(host: Host) -> None:
    await host.deploy(GOOD)
    await host.watch("def schedule(ctx):\n    return [reject(ctx.queue[0], 'no')]\n")

    verdict = await host.decide(CONTEXT)
    assert verdict.checked is not None
    await host.compare(CONTEXT, verdict.checked)
    await host.watch(WRONG["error"])
    first = host.tally
    for _ in range(4):
        await host.compare(CONTEXT, verdict.checked)
    host.unwatch()
    await host.compare(CONTEXT, verdict.checked)

    assert placed(verdict) == ["t1", "t2"]
    assert (first.cycles, first.failures["error"], first.placed_live) == (4, 4, 0)
    assert host.supervisor.failures == {}


async def test_a_shadow_that_decides_otherwise_is_seen(host: Host) -> None:
    await host.deploy(GOOD)
    await host.watch("def schedule(ctx):\n    return [reject(ctx.queue[0], 'no')]\n")
    verdict = await host.decide(CONTEXT)
    assert verdict.checked is not None

    await host.compare(CONTEXT, verdict.checked)

    assert (host.tally.cycles, host.tally.rejected, host.tally.only_live) == (1, 1, 1)
    assert [it.task for it in host.tally.recent] == ["t1", "t2"]


async def test_a_wrong_shadow_is_not_watched(host: Host) -> None:
    loaded = await host.watch("nope")

    await host.compare(CONTEXT, Checked(()))

    assert not loaded.ok
    assert host.tally.cycles == 0
