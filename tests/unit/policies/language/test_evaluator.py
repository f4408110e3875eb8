import json

import msgspec
import pytest

from octarm.policies.context import ArmFacts, Context, TaskFacts
from octarm.policies.language.evaluator import Evaluator, Finding, Output, ScriptError

TEXT = msgspec.json.encode(
    Context(7, (TaskFacts("t1", labels={"a": "b"}),), (ArmFacts("a"),)), order="deterministic"
).decode()
EVALUATOR = Evaluator()


def run(body: str) -> object:
    policy = EVALUATOR.compile(f"def schedule(ctx):\n{body}\n")
    return json.loads(EVALUATOR.decide(policy, EVALUATOR.context(TEXT)))


def test_gives_the_actions_of_a_policy() -> None:
    assert run("    return [wait('at %d' % ctx.now_ms)]") == [
        {"action": "wait", "reason": "at 7", "retry_after_ms": None, "task": None}
    ]


@pytest.mark.parametrize(
    "body",
    [
        "    ctx.queue.append(1)",
        "    ctx.queue[0].labels['x'] = 'y'",
        "    ctx.tenants['x'] = 1",
        "    ctx.now_ms = 1",
        "    ctx.arms[0].instances[0] = 1",
    ],
)
def test_nothing_in_the_context_can_be_changed(body: str) -> None:
    with pytest.raises(ScriptError) as raised:
        run(f"{body}\n    return []")

    assert raised.value.line == 2


def test_nothing_is_kept_between_calls() -> None:
    policy = EVALUATOR.compile("SEEN = []\ndef schedule(ctx):\n    SEEN.append(1)\n    return []")

    with pytest.raises(ScriptError, match="Immutable"):
        EVALUATOR.decide(policy, EVALUATOR.context(TEXT))


@pytest.mark.parametrize(
    "name",
    ["random", "time", "datetime", "os", "open", "eval", "exec", "input", "id", "globals", "load"],
)
def test_nothing_that_could_answer_differently_exists(name: str) -> None:
    with pytest.raises(ScriptError):
        run(f"    return [{name}('x')]")


def test_the_same_context_gives_the_same_answer_in_another_evaluator() -> None:
    source = "def schedule(ctx):\n    return [str({c: hash(c) for c in 'hello world'.elems()})]"

    answers = [
        other.decide(other.compile(source), other.context(TEXT))
        for other in (Evaluator(), Evaluator(), EVALUATOR)
    ]

    assert len(set(answers)) == 1


@pytest.mark.parametrize(
    ("source", "says", "line"),
    [
        ("", "defines no function", None),
        ("schedule = 1", "defines no function", None),
        ("def schedule(ctx):\n    return nope", "`nope` not found", 2),
        ("def schedule(ctx):\n  while True:\n    pass", "while", 2),
        ("import os", "import", 1),
        ("load('os', 'path')", "nothing to load", 1),
        ("def schedule(ctx:\n", "Parse error", 1),
        ("x = 1 // 0\ndef schedule(ctx):\n    return []", "division by zero", 1),
    ],
)
def test_says_what_is_wrong_with_a_source(source: str, says: str, line: int | None) -> None:
    with pytest.raises(ScriptError, match=says) as raised:
        EVALUATOR.compile(source)

    assert raised.value.line == line


@pytest.mark.parametrize("answer", ["None", "'x'", "{}", "1", "wait()", "[0] * 3000"])
def test_takes_nothing_but_a_list_for_an_answer(answer: str) -> None:
    with pytest.raises(ScriptError, match="bad return: schedule"):
        run(f"    return {answer}")


def test_names_the_line_in_which_it_failed_and_the_way_there() -> None:
    source = """def pick(ctx):
    x = 1
    return ctx.nope + x

def schedule(ctx):
    y = pick(ctx)
    return y
"""

    with pytest.raises(ScriptError, match=r"^Traceback.*\n  \* policy.star:6, in sched") as raised:
        EVALUATOR.decide(EVALUATOR.compile(source), EVALUATOR.context(TEXT))

    assert raised.value.line == 3


def test_ends_recursion_at_the_depth_that_is_set() -> None:
    source = "def f(n):\n    return f(n + 1) + 1\ndef schedule(ctx):\n    return f(0)"

    with pytest.raises(ScriptError, match="overflow"):
        EVALUATOR.decide(EVALUATOR.compile(source), EVALUATOR.context(TEXT))


def test_stops_when_told_to() -> None:
    policy = EVALUATOR.compile(
        "def schedule(ctx):\n    for i in range(1000000000):\n        pass\n    return []"
    )

    with pytest.raises(ScriptError, match="cancelled"):
        EVALUATOR.decide(policy, EVALUATOR.context(TEXT), cancelled=lambda: True)


def test_a_policy_may_define_a_helper_anew_for_itself() -> None:
    policy = EVALUATOR.compile(
        "def average(x):\n    return 'mine'\ndef schedule(ctx):\n    return [average([1])]"
    )

    assert EVALUATOR.decide(policy, EVALUATOR.context(TEXT)) == '["mine"]'
    assert EVALUATOR.findings("def average():\n    return 1\nx = average()\n") == []


def test_finds_calls_that_must_fail_without_running_them() -> None:
    source = """def schedule(ctx):
    dispatch(1)
    best_arm(ctx, 1, 2, 3, 4, 5)
    wait(nope = 1)
    return [nope]
"""

    found = sorted(EVALUATOR.findings(source), key=lambda it: it.line or 0)

    assert [it.line for it in found] == [2, 3, 4, 5]
    assert all(it.certain for it in found)
    assert found[0] == Finding(2, "Missing required parameter `arm`", True)


def test_finds_nothing_in_a_policy_that_is_right() -> None:
    assert EVALUATOR.findings("def schedule(ctx):\n    return platform_schedule(ctx)") == []


def test_findings_refuse_what_is_no_starlark() -> None:
    with pytest.raises(ScriptError):
        EVALUATOR.findings("def (")


def test_keeps_output_within_its_bounds_and_counts_the_rest() -> None:
    output = Output(max_bytes=5, max_lines=3, max_metrics=1)

    for text in ("abc", "defgh", "i"):
        output.keep("print", text)
    for number in range(3):
        output.measure("m" * 100, number)

    assert output.lines == ["abc", "de"]
    assert output.metrics == [("m" * 64, 0)]
    assert output.dropped == 3


def test_keeps_no_more_lines_than_it_may() -> None:
    output = Output(max_lines=2)

    for _ in range(5):
        output.keep("info", "x")

    assert output.lines == ["info: x"] * 2
    assert output.dropped == 3
