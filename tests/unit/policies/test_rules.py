import json
from typing import Any

import msgspec
import pytest

from octarm.policies.context import (
    ArmFacts,
    Context,
    InstanceFacts,
    TaskFacts,
    TenantFacts,
    TenantLimits,
)
from octarm.policies.language.evaluator import Evaluator
from octarm.policies.rules.compiling import Script, compile_rules
from octarm.policies.rules.model import PREFERENCES
from octarm.policies.rules.reading import RulesError

EVALUATOR = Evaluator()
EU = ArmFacts("eu", slots=2, free=2, labels={"region": "eu"}, cost_tier=3)
US = ArmFacts("us", slots=4, free=4, labels={"region": "us"})


def run(rules: str, *tasks: TaskFacts, arms: tuple[ArmFacts, ...] = (EU, US), **rest: Any) -> Any:
    policy = EVALUATOR.compile(compile_rules(rules).source)
    context = Context(1_000, tasks or (TaskFacts("t1"), TaskFacts("t2")), arms, **rest)
    text = msgspec.json.encode(context, order="deterministic").decode()
    return json.loads(EVALUATOR.decide(policy, EVALUATOR.context(text)))


def brief(actions: Any) -> list[tuple[str, ...]]:
    return [
        tuple(str(it[key]) for key in ("action", "task", "arm", "instance") if it.get(key))
        for it in actions
    ]


def test_the_first_rule_that_holds_decides() -> None:
    rules = """
    rules:
      - {name: rest, action: dispatch}
      - name: not-two
        priority: 5
        condition: task.id == "t2"
        action: {reject: {reason: no twos}}
    """

    actions = run(rules)

    assert brief(actions) == [("dispatch", "t1", "us"), ("reject", "t2")]
    assert actions[0]["reason"] == "rest"
    assert actions[1]["reason"] == "no twos"


def test_a_task_that_no_rule_decides_is_not_named() -> None:
    assert run("rules: [{condition: false, action: dispatch}]") == []


def test_dispatch_takes_only_arms_for_which_its_expression_holds() -> None:
    rules = """
    rules:
      - name: eu
        action: {dispatch: {arms: 'arm.labels["region"] == "eu"'}}
    """
    tasks = [TaskFacts(f"t{n}") for n in range(3)]

    actions = run(rules, *tasks)

    assert brief(actions)[:2] == [("dispatch", "t0", "eu"), ("dispatch", "t1", "eu")]
    assert actions[2]["reason"] == "eu: no arm with room"


def test_dispatch_may_compare_arm_and_task() -> None:
    rules = """
    rules:
      - action: {dispatch: {arms: 'arm.labels["region"] == task.labels.get("region")'}}
    """
    tasks = [TaskFacts(region, labels={"region": region}) for region in ("us", "eu", "mars")]

    assert brief(run(rules, *tasks)) == [
        ("dispatch", "eu", "eu"),
        ("wait", "mars"),
        ("dispatch", "us", "us"),
    ]


def test_a_task_may_go_on_to_the_next_rule_when_no_arm_has_room() -> None:
    rules = """
    rules:
      - {name: one, action: {dispatch: {arms: 'arm.id == "eu"', otherwise: next}}}
      - {name: two, action: dispatch}
    """
    tasks = [TaskFacts(f"t{n}") for n in range(3)]

    assert [it["reason"] for it in run(rules, *tasks)] == ["one", "one", "two"]


def test_an_action_may_come_without_settings() -> None:
    assert brief(run("rules: [{action: {dispatch: }}]", TaskFacts("t"))) == [
        ("dispatch", "t", "us")
    ]


def test_wait_says_when_to_ask_again() -> None:
    (action,) = run("rules: [{action: {wait: {retry_after_ms: 50, reason: so}}}]", TaskFacts("t"))

    assert (action["retry_after_ms"], action["reason"], action["task"]) == (50, "so", "t")


def test_evict_and_start_are_asked_for_each_arm() -> None:
    idle = tuple(InstanceFacts(f"i{n}", last_used_at=9 - n) for n in range(3))
    arm = ArmFacts("a", slots=3, free=3, instances=idle)
    rules = """
    rules:
      - {action: evict}
      - {name: few, condition: arm.slots < 3, action: start}
    """

    assert brief(run(rules, arms=(arm, US))) == [("evict", "i2")]
    assert brief(run(rules.replace("< 3", "> 3"), arms=(arm, US))) == [
        ("evict", "i2"),
        ("start", "us"),
    ]
    assert brief(run("rules: [{action: {evict: {by: lfu}}}]", arms=(arm,))) == [("evict", "i0")]


def test_tasks_of_a_tenant_over_its_quota_wait_whatever_the_rules_say() -> None:
    tenants = {"default": TenantFacts("default", limits=TenantLimits(running=1))}

    assert brief(run("rules: [{action: dispatch}]", tenants=tenants)) == [
        ("dispatch", "t1", "us"),
        ("wait", "t2"),
    ]


@pytest.mark.parametrize("order", ["priority", "deadline", "fair", "arrival"])
@pytest.mark.parametrize("prefer", PREFERENCES)
def test_every_order_and_preference_runs(order: str, prefer: str) -> None:
    rules = f"order: {order}\nrules: [{{action: {{dispatch: {{prefer: {prefer}}}}}}}]"

    assert len(run(rules)) == 2


@pytest.mark.parametrize(
    ("rules", "says", "line"),
    [
        ("", "must be a mapping", 1),
        ("- a", "must be a mapping", 1),
        ("rules: []", "at least one rule", 1),
        ("rules: 1", "at least one rule", 1),
        ("rules: [1]", "rule 1 is no mapping", 1),
        ("rulez: []", "no `rulez` here", 1),
        ("rules: [{name: a}]", "has no action", 1),
        ("rules:\n  - action: dispach", "no action 'dispach'", 2),
        ("rules:\n  - action: [wait]", "one name", 2),
        ("rules:\n  - action: {wait: 1}", "must be a mapping", 2),
        ("rules:\n  - action:\n      dispatch:\n        prefer: best", "cannot be 'best'", 4),
        ("rules:\n  - {action: wait, priority: high}", "whole number", 2),
        ("rules:\n  - {action: {wait: {retry_after_ms: 0}}}", "1 to 3600000", 2),
        ("rules:\n  - {action: wait, name: 1}", "one line", 2),
        ('rules:\n  - {action: wait, name: "a\\nb"}', "one line", 2),
        ("rules:\n  - {action: wait, condition: 'a b'}", "no expression", 2),
        ("rules:\n  - {action: wait, condition: 'x) or (y'}", "no expression", 2),
        ("rules:\n  - {action: wait, condition: [1]}", "must be an expression", 2),
        ("rules:\n  - {action: wait, condition: '" + "(" * 500 + "'}", "no expression", 2),
        ("rules:\n  - {action: wait, condition: '" + "x" * 2000 + "'}", "must be an expression", 2),
        ("rules: [{action: wait, name: a}, {action: wait, name: a}]", "two rules", 1),
        ("order: random\nrules: [{action: wait}]", "cannot be 'random'", 1),
        ("rules: [" + "{action: wait}," * 65 + "]", "at most 64", 1),
        ("a: 1\na: 2", "occurs twice", 2),
        ("a: &x 1", "anchors", 1),
        ("a: *x", "anchors", 1),
        ("a: !!python/object:os.system {}", "tag", 1),
        ("a: " + "[" * 20, "nested deeper", 1),
        ("a: [" + "1," * 6_000 + "]", "more than 5000", 1),
        ("a: [", "no YAML", None),
        ("\x00", "no YAML", None),
        ("a: 1\n---\nb: 2", "no YAML", None),
    ],
)
def test_says_what_is_wrong_and_where(rules: str, says: str, line: int | None) -> None:
    with pytest.raises(RulesError, match=says) as raised:
        compile_rules(rules)

    assert line is None or raised.value.line == line


def test_no_bomb_of_aliases_is_ever_built() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )

    with pytest.raises(RulesError, match="aliases"):
        compile_rules(bomb)


def test_a_comment_in_an_expression_ends_nothing() -> None:
    rules = "rules:\n  - condition: |\n      task.id == 't1'  # note\n    action: dispatch\n"

    assert brief(run(rules)) == [("dispatch", "t1", "us")]


def test_lines_of_the_script_lead_back_to_the_rules() -> None:
    script = compile_rules("rules:\n  - name: a\n    condition: task.nope\n    action: wait\n")
    line = next(n for n, text in enumerate(script.source.splitlines(), 1) if "nope" in text)

    assert script.origin(line) == 3
    assert script.origin(1) is None
    assert script.origin(999) is None
    assert script.origin(None) is None
    assert Script("x").origin(5) == 5


@pytest.mark.parametrize("text", ["yes", "~", "0x1F", "1.5", "99999999999999999999"])
def test_other_scalars_are_no_conditions(text: str) -> None:
    rules = f"rules: [{{condition: {text}, action: wait}}]"

    if text == "~":
        with pytest.raises(RulesError, match="must be an expression"):
            compile_rules(rules)
    elif text.startswith("9"):
        assert text in compile_rules(rules).source
    else:
        assert "if" in compile_rules(rules).source
