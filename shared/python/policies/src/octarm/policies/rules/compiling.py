"""Compile rules to a Starlark policy that a person could have written."""

import json
from dataclasses import dataclass, field

from octarm.policies.rules.model import OF_ARMS, ORDERS, PREFERENCES, Expression, Rule, parse_rules


@dataclass(frozen=True, slots=True)
class Script:
    """Starlark; when generated, its line n + 1 comes from line `lines[n]` of the rules, 0: none."""

    source: str
    lines: tuple[int, ...] | None = None

    def origin(self, line: int | None) -> int | None:
        """Say which line of what the author wrote a line of the script comes from."""
        if line is None or self.lines is None:
            return line
        return self.lines[line - 1] or None if 1 <= line <= len(self.lines) else None


@dataclass(slots=True)
class _Writer:
    text: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def put(self, depth: int, text: str, line: int = 0) -> None:
        self.text.append("    " * depth + text)
        self.lines.append(line)


def compile_rules(source: str) -> Script:
    """Compile a rules document; the same document gives the same script.

    For each task, in the chosen order, the first rule whose condition holds decides; a task that
    none decides waits. Rules that evict or start are asked for each arm. Tasks of tenants that are
    over their quota wait whatever the rules say.

    Raises:
        RulesError: the document is wrong.
    """
    document = parse_rules(source)
    out = _Writer()
    of_arms = [rule for rule in document.rules if rule.action in OF_ARMS]
    of_tasks = [rule for rule in document.rules if rule.action not in OF_ARMS]
    out.put(0, "def schedule(ctx):")
    out.put(1, "plan = new_plan(ctx)")
    out.put(1, "actions = []")
    for number, rule in enumerate(document.rules):
        if rule.arms.text and not rule.arms.mentions("task"):
            out.put(1, f"arms_{number} = lambda arm: ({rule.arms.text})", rule.arms.line)
    if of_arms:
        out.put(1, "for arm in ctx.arms:")
        for rule in of_arms:
            _arm_rule(out, rule)
    if of_tasks:
        out.put(1, f"for task in {ORDERS[document.order]}:")
        out.put(2, "if tenant_over_quota(ctx, task.tenant, plan):")
        out.put(3, 'actions.append(wait("its tenant is over its quota", task = task))')
        out.put(3, "continue")
        for rule in of_tasks:
            _task_rule(out, rule, document.rules.index(rule))
    out.put(1, "return actions")
    return Script("\n".join(out.text) + "\n", tuple(out.lines))


def _arm_rule(out: _Writer, rule: Rule) -> None:
    depth, reason = _begin(out, rule), _reason(rule)
    if rule.action == "start":
        out.put(depth, f"actions.append(start(arm, {reason}))", rule.line)
        return
    found = f"find_instance_to_evict_{rule.settings.get('by', 'lru')}(ctx, arm)"
    out.put(depth, f"if should_evict(ctx, arm).needed and {found} != None:", rule.line)
    out.put(depth + 1, f"actions.append(evict({found}, {reason}))", rule.line)


def _task_rule(out: _Writer, rule: Rule, number: int) -> None:
    depth, reason = _begin(out, rule), _reason(rule)
    if rule.action == "dispatch":
        find = PREFERENCES[rule.settings.get("prefer", "least_loaded")]
        keep = _keep(rule, number)
        out.put(depth, f"arm = {find}(ctx, task, plan{keep})", rule.arms.line)
        out.put(depth, "if arm != None:", rule.line)
        out.put(depth + 1, f"actions.append(place(plan, task, arm, {reason}))", rule.line)
        out.put(depth + 1, "continue", rule.line)
        if rule.settings.get("otherwise") == "next":
            return
        reason = json.dumps(f"{rule.name}: no arm with room", ensure_ascii=False)
        out.put(depth, f"actions.append(wait({reason}, task = task))", rule.line)
    elif rule.action == "wait":
        after = rule.settings.get("retry_after_ms")
        out.put(depth, f"actions.append(wait({reason}, {after}, task))", rule.line)
    else:
        out.put(depth, f"actions.append(reject(task, {reason}))", rule.line)
    out.put(depth, "continue", rule.line)


def _begin(out: _Writer, rule: Rule) -> int:
    """Write the condition; give the depth of what depends on it."""
    out.put(2, f"# {rule.name}", rule.line)
    out.put(2, f"if {_condition(rule.condition)}:", rule.condition.line)
    return 3


def _condition(condition: Expression) -> str:
    return f"({condition.text})" if condition.text else "True"


def _keep(rule: Rule, number: int) -> str:
    if not rule.arms.text:
        return ""
    if rule.arms.mentions("task"):
        return f", keep = lambda arm: ({rule.arms.text})"
    return f", keep = arms_{number}"


def _reason(rule: Rule) -> str:
    return json.dumps(rule.settings.get("reason") or rule.name, ensure_ascii=False)
