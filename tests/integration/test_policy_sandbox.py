"""Hostile and broken policies in real child processes: each costs the call that it was in."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from octarm.policies.actions import Dispatch, check
from octarm.policies.context import ArmFacts, Context, TaskFacts
from octarm.policies.outcomes import Decided, PolicyFailed
from octarm.policies.sandbox.engine import Engine
from octarm.policies.sandbox.limits import Limits
from octarm.policies.sandbox.validation import validate
from octarm.policies.versions import Kind
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

TASKS = tuple(TaskFacts(f"t{n}") for n in range(256))
ARMS = tuple(ArmFacts(f"arm-{n}", slots=10, free=10) for n in range(100))
CONTEXT = Context(1_000, TASKS, ARMS)
GOOD = "def schedule(ctx):\n    return platform_schedule(ctx)\n"


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    # A busy machine must fail no test: real time is generous, processor time is not.
    async with Engine(Limits(call_ms=300, grace_ms=3_000, load_ms=2_000)) as running:
        yield running


def body(*lines: str) -> str:
    return "\n    ".join(["def schedule(ctx):", *lines]) + "\n"


async def decide(engine: Engine, source: str) -> Decided | PolicyFailed:
    loaded = await engine.load(source)
    assert loaded.ok, loaded.problems
    return await engine.decide(loaded.digest, CONTEXT)


async def works(engine: Engine) -> None:
    decided = await decide(engine, GOOD)
    assert isinstance(decided, Decided), decided
    assert len(check(decided.actions, CONTEXT).kept) == 256


HOSTILE = {
    "an endless loop": (body("for i in range(1000000000):", "    pass"), {"timeout"}),
    "nested loops": (
        body(
            "r = range(1000000)",
            "x = 0",
            "for a in r:",
            "    for b in r:",
            "        for c in r:",
            "            x += 1",
        ),
        {"timeout"},
    ),
    "a bomb of nested comprehensions": (
        body("r = range(100000)", "return [[[a for a in r] for b in r] for c in r]"),
        {"timeout", "memory"},
    ),
    "a list that doubles": (
        body("x = [1]", "for i in range(100):", "    x.extend(x)", "return x"),
        {"memory", "timeout"},
    ),
    "a string that doubles": (
        body("x = 'ab'", "for i in range(100):", "    x = x + x", "return [x]"),
        {"memory", "timeout", "error"},
    ),
    "a string that is multiplied": (
        body("return ['x' * (len(ctx.queue) * 10000000)]"),
        {"memory", "error"},
    ),
    "a list that is multiplied": (body("return [0] * (len(ctx.queue) * 4000000)"), {"memory"}),
    "a range that is listed": (
        body("return list(range(len(ctx.queue) * 4000000))"),
        {"memory", "crash"},
    ),
    "one long sort": (body("return sorted(range(100000000))"), {"memory", "timeout"}),
    "recursion": (
        "def f(n):\n    return f(n + 1) + 1\ndef schedule(ctx):\n    return [f(0)]\n",
        {"error"},
    ),
    "a huge answer": (body("return ['x' * 1000] * 2000"), {"bad_return"}),
    "an answer of too many": (body("return [0] * 100000"), {"bad_return"}),
    "an answer that contains itself": (body("x = []", "x.append(x)", "return x"), {"bad_return"}),
    "an answer of great depth": (
        body("x = []", "for i in range(1000):", "    x = [x]", "return x"),
        {"bad_return", "crash", "timeout"},
    ),
    "an answer of endless depth": (
        body("x = []", "for i in range(100000):", "    x = [x]", "return x"),
        {"bad_return", "crash", "memory", "timeout"},
    ),
    "a function for an answer": (body("return [schedule]"), {"bad_return"}),
    "no answer": (body("pass"), {"bad_return"}),
    "an exception": (body("x = 1", "return [ctx.queue[x].nope]"), {"error"}),
    "a division by zero": (body("return [1 // 0]"), {"error"}),
    "a text of great depth": (
        body("x = []", "for i in range(3000000):", "    x = [x]", "return [str(x)]"),
        {"error", "crash", "memory", "timeout"},
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_policy_costs_one_call(engine: Engine, what: str) -> None:
    source, reasons = HOSTILE[what]

    failed = await decide(engine, source)

    assert isinstance(failed, PolicyFailed)
    assert failed.reason in reasons, failed
    assert failed.traceback
    await works(engine)


async def test_an_error_comes_with_its_line_and_what_had_been_said(engine: Engine) -> None:
    failed = await decide(engine, body("print('so far')", "return ctx.nope"))

    assert isinstance(failed, PolicyFailed)
    assert (failed.reason, failed.line, failed.printed) == ("error", 3, ("so far",))
    assert "no attribute `nope`" in failed.traceback


async def test_a_policy_that_prints_without_end_is_cut_short(engine: Engine) -> None:
    text = "x" * 1000
    source = body("for i in range(1000000):", f"    print('{text}')", "return []")

    failed = await decide(engine, source)

    assert isinstance(failed, PolicyFailed)
    assert failed.reason == "timeout"
    assert sum(map(len, failed.printed)) <= 16_384
    await works(engine)


async def test_output_beyond_its_bounds_is_counted(engine: Engine) -> None:
    decided = await decide(engine, body("[print('x') for i in range(300)]", "return []"))

    assert isinstance(decided, Decided)
    assert (len(decided.printed), decided.output_dropped) == (200, 100)


async def test_invalid_actions_are_dropped_and_the_valid_ones_kept(engine: Engine) -> None:
    source = body(
        "t, a = ctx.queue[0], ctx.arms[0]",
        "return [1, 'x', None, {}, dispatch('no', a), dispatch(t, 'no'), dispatch(t, a),",
        "    dispatch(t, a), evict('no'), wait(retry_after_ms = -1), {'action': 'rm -rf'}, [[]]]",
    )

    decided = await decide(engine, source)

    assert isinstance(decided, Decided)
    checked = check(decided.actions, CONTEXT)
    assert checked.kept == (Dispatch("t0", "arm-0"),)
    assert len(checked.dropped) == 11


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def schedule(ctx):\n    return []\n" + "# " + "x" * 1_000_000, "at most 65536"),
        ("x = " + "(" * 30_000 + ")" * 30_000, ""),
        ("x = " + "-" * 60_000 + "1", "crash"),
        ("x = " + "1+" * 30_000 + "1", ""),
        ("x = " + "[" * 30_000, ""),
        ("def f():\n" + "".join("  " * n + "if 1:\n" for n in range(1, 150)), ""),
        ("for i in range(1000000000):\n    pass\n", "timeout"),
        ("x = [0] * 1000000000", "memory"),
        ("def schedule(ctx", "Parse error"),
        ("\x00\ud800", ""),
    ],
)
async def test_a_source_that_cannot_be_compiled_is_a_problem(
    engine: Engine, source: str, says: str
) -> None:
    loaded = await engine.load(source)

    assert not loaded.ok
    assert says in loaded.problems[0].message
    with pytest.raises(KeyError):
        await engine.decide(loaded.digest, CONTEXT)
    await works(engine)


async def test_a_call_that_hears_nothing_kills_the_child() -> None:
    async with Engine(Limits(grace_ms=300), children=1) as engine:
        loaded = await engine.load(GOOD)
        (before,) = engine.pids
        os.kill(before, signal.SIGSTOP)

        failed = await engine.decide(loaded.digest, CONTEXT)

        assert isinstance(failed, PolicyFailed)
        assert failed.reason == "timeout"
        await wait_until(lambda: before not in engine.pids and len(engine.pids) == 1)
        await works(engine)


async def test_a_child_that_is_killed_is_replaced_and_knows_the_policies() -> None:
    async with Engine(Limits(grace_ms=3_000), children=1) as engine:
        loaded = await engine.load(GOOD)
        (before,) = engine.pids
        os.kill(before, signal.SIGKILL)

        failed = await engine.decide(loaded.digest, CONTEXT)

        assert isinstance(failed, PolicyFailed)
        assert failed.reason == "crash"
        await wait_until(lambda: before not in engine.pids and len(engine.pids) == 1)
        assert isinstance(await engine.decide(loaded.digest, CONTEXT), Decided)


async def test_of_two_children_that_die_the_last_is_replaced_at_once_and_then_the_other() -> None:
    async with Engine(Limits(grace_ms=3_000)) as engine:
        loaded = await engine.load(GOOD)
        before = set(engine.pids)
        for child in before:
            os.kill(child, signal.SIGKILL)

        for _ in before:
            assert isinstance(await engine.decide(loaded.digest, CONTEXT), PolicyFailed)

        assert isinstance(await engine.decide(loaded.digest, CONTEXT), Decided)
        assert not before.intersection(engine.pids)
        await wait_until(lambda: len(engine.pids) == 2)


async def test_a_call_that_is_given_up_leaves_no_answer_to_the_next_one(engine: Engine) -> None:
    slow = await engine.load(body("x = [i for i in range(200000)]", "return [wait('slow')]"))
    calls = [asyncio.create_task(engine.decide(slow.digest, CONTEXT)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)

    await works(engine)
    await works(engine)


async def test_no_child_can_open_or_start_anything(engine: Engine) -> None:
    await asyncio.to_thread(_is_confined, engine.pids)


def _is_confined(pids: list[int]) -> None:
    for pid in pids:
        limits = Path(f"/proc/{pid}/limits").read_text()
        environment = Path(f"/proc/{pid}/environ").read_bytes().rstrip(b"\x00")
        bounds = {line[:25].strip(): line[25:].split()[1] for line in limits.splitlines()[1:]}

        assert bounds["Max open files"] == "0"
        assert bounds["Max file size"] == "0"
        assert bounds["Max core file size"] == "0"
        assert int(bounds["Max address space"]) <= 256 << 20
        assert environment == b"RUST_BACKTRACE=0"
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


async def test_many_policies_share_the_children(engine: Engine) -> None:
    loaded = [await engine.load(body(f"return [wait('{n}')]")) for n in range(80)]

    for _ in range(2):
        for n, version in enumerate(loaded):
            decided = await engine.decide(version.digest, Context(1))
            assert isinstance(decided, Decided)
            assert decided.actions[0]["reason"] == str(n)  # type: ignore[index]


async def test_a_policy_that_is_forgotten_cannot_be_called(engine: Engine) -> None:
    loaded = await engine.load(GOOD)

    engine.forget(loaded.digest)
    engine.forget(loaded.digest)

    with pytest.raises(KeyError):
        await engine.decide(loaded.digest, CONTEXT)


async def test_no_child_outlives_its_engine() -> None:
    async with Engine() as engine:
        pids = engine.pids

    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_rules_run_like_scripts_and_fail_with_their_own_lines(engine: Engine) -> None:
    rules = "rules:\n  - name: a\n    condition: task.nope == 1\n    action: wait\n"

    loaded = await engine.load(rules, "yaml")
    failed = await engine.decide(loaded.digest, CONTEXT)
    wrong = await engine.load(rules.replace("task.nope", "nope"), "yaml")

    assert isinstance(failed, PolicyFailed)
    assert (failed.reason, failed.line) == ("error", 3)
    assert [(it.severity, it.line) for it in wrong.problems] == [("error", 3)]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (body("return ctx.queue[0]"), "on the sample 'empty'"),
        (body("if not ctx.arms:", "    return []", "return ctx.nope"), "on the sample 'few'"),
        (body("for a in ctx.arms:", "    for i in range(100000000):", "        pass"), "timeout"),
        (body("return nope"), "not found"),
        (body("dispatch(1)", "return []"), "Missing required parameter"),
    ],
)
async def test_validation_tells_what_a_policy_would_do(
    engine: Engine, source: str, says: str
) -> None:
    report = await validate(engine, source)

    assert not report.ok
    assert any(says in problem.message for problem in report.problems)
    assert engine.policies == frozenset()


async def test_validation_warns_of_actions_that_would_be_dropped(engine: Engine) -> None:
    source = body("return [dispatch(t, a) for t in ctx.queue for a in ctx.arms[:1]]")

    report = await validate(engine, source)

    assert report.ok
    assert {problem.severity for problem in report.problems} == {"warning"}
    assert all("dropped" in problem.message for problem in report.problems)


@pytest.mark.parametrize(
    ("source", "kind"), [(GOOD, "starlark"), ("rules: [{action: dispatch}]", "yaml")]
)
async def test_validation_has_nothing_to_say_of_a_good_policy(
    engine: Engine, source: str, kind: Kind
) -> None:
    await engine.load(source, kind)

    report = await validate(engine, source, kind)

    assert report.problems == ()
    assert engine.policies == {report.digest}


async def test_a_child_that_has_grown_is_replaced_between_calls() -> None:
    async with Engine(Limits(worn_mib=0, call_ms=300, grace_ms=3_000), children=1) as engine:
        loaded = await engine.load(GOOD)
        seen = set()
        for _ in range(4):
            seen.update(engine.pids)
            assert isinstance(await engine.decide(loaded.digest, CONTEXT), Decided)

    assert len(seen) >= 3
