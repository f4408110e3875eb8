"""What a rule may say: read from YAML, checked, with the line of everything that may be wrong."""

import ast
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from octarm.policies.rules.reading import Mapping, RulesError, read

MAX_RULES: Final = 64
MAX_EXPRESSION: Final = 1_000

ORDERS: Final = {
    "priority": "order_by_priority(ctx)",
    "deadline": "order_by_deadline(ctx)",
    "fair": "order_fairly(ctx)",
    "arrival": "ctx.queue",
}
PREFERENCES: Final = {
    "least_loaded": "find_least_loaded_arm",
    "most_free": "find_most_free_arm",
    "cheapest": "find_cheapest_arm",
    "fastest": "find_fastest_arm",
    "most_reliable": "find_most_reliable_arm",
    "round_robin": "find_arm_round_robin",
    "affine": "find_affine_arm",
    "ready": "find_ready_arm",
}
# Every action with the keys that it knows.
ACTIONS: Final = {
    "dispatch": ("prefer", "arms", "otherwise", "reason"),
    "wait": ("retry_after_ms", "reason"),
    "reject": ("reason",),
    "evict": ("by", "reason"),
    "start": ("reason",),
}
OF_ARMS: Final = ("evict", "start")


@dataclass(frozen=True, slots=True)
class Expression:
    """A Starlark expression and the line it stands in; an empty text is always true."""

    text: str
    line: int

    def mentions(self, name: str) -> bool:
        """Whether the name occurs in it."""
        tree = ast.parse(self.text or "True", mode="eval")
        return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


@dataclass(frozen=True, slots=True)
class Rule:
    """When the condition holds, do this; `settings` are the action's, already checked."""

    name: str
    line: int
    priority: int
    condition: Expression
    action: str
    settings: dict[str, Any]
    arms: Expression


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, the highest priority first, those of equal priority in the order of the file."""

    order: str
    rules: tuple[Rule, ...]


def parse_rules(source: str) -> Rules:
    """Read and check a rules document.

    Raises:
        RulesError: what is wrong, in which line, and what to write instead when that is known.
    """
    document = read(source)
    _known(document, ("name", "version", "order", "rules"))
    order = _choice(document, "order", tuple(ORDERS), "priority")
    listed = document.get("rules")
    if not isinstance(listed, list) or not listed:
        raise RulesError("`rules` must be a list with at least one rule", document.line)
    if len(listed) > MAX_RULES:
        raise RulesError(f"{len(listed)} rules; at most {MAX_RULES} are taken", document.line)
    rules = [_rule(item, number, document) for number, item in enumerate(listed, 1)]
    names = [rule.name for rule in rules]
    for rule in rules:
        if names.count(rule.name) > 1:
            raise RulesError(f"two rules are named {rule.name!r}", rule.line)
    return Rules(order, tuple(sorted(rules, key=lambda rule: -rule.priority)))


def _rule(item: Any, number: int, document: Mapping) -> Rule:
    if not isinstance(item, Mapping):
        raise RulesError(f"rule {number} is no mapping", document.lines["rules"])
    _known(item, ("name", "priority", "condition", "action"))
    priority = item.get("priority", 0)
    if not isinstance(priority, int):
        raise RulesError("`priority` must be a whole number", item.lines["priority"])
    if "action" not in item:
        raise RulesError("the rule has no action", item.line, f"one of {', '.join(ACTIONS)}")
    action, settings = _action(item)
    return Rule(
        name=_text(item, "name", f"rule {number}", most=64),
        line=item.line,
        priority=priority,
        condition=_expression(item, "condition"),
        action=action,
        settings=settings,
        arms=_expression(settings, "arms"),
    )


def _action(item: Mapping) -> tuple[str, Mapping]:
    given, line = item["action"], item.lines["action"]
    if isinstance(given, str):
        name, settings = given, Mapping()
        settings.line, settings.lines = line, {}
    elif isinstance(given, Mapping) and len(given) == 1:
        name, settings = next(iter(given.items()))
    else:
        raise RulesError("`action` must be one name, or one name with settings", line)
    if name not in ACTIONS:
        raise RulesError(f"there is no action {name!r}", line, _closest(name, tuple(ACTIONS)))
    if settings is None:
        settings = Mapping()
        settings.line, settings.lines = line, {}
    if not isinstance(settings, Mapping):
        raise RulesError(f"the settings of {name} must be a mapping", line)
    _known(settings, ACTIONS[name])
    _choice(settings, "prefer", tuple(PREFERENCES), "least_loaded")
    _choice(settings, "otherwise", ("wait", "next"), "wait")
    _choice(settings, "by", ("lru", "lfu"), "lru")
    _text(settings, "reason", "", most=150)
    retry = settings.get("retry_after_ms", 1)
    if not isinstance(retry, int) or not 1 <= retry <= 3_600_000:
        raise RulesError("`retry_after_ms` must be 1 to 3600000", settings.lines["retry_after_ms"])
    return name, settings


def _expression(item: Mapping, key: str) -> Expression:
    given, line = item.get(key, ""), item.lines.get(key, item.line)
    if given in ("always", True):
        return Expression("", line)
    if given is False:
        return Expression("False", line)
    if not isinstance(given, str) or len(given) > MAX_EXPRESSION:
        raise RulesError(
            f"`{key}` must be an expression of up to {MAX_EXPRESSION} characters", line
        )
    text = " ".join(given.split("\n")).strip()
    try:
        # Written anew, so that it is one line and nothing but an expression.
        return Expression(ast.unparse(ast.parse(text, mode="eval")) if text else "", line)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else "too complex"
        raise RulesError(f"`{key}` is no expression: {what}", line) from None


def _known(item: Mapping, keys: tuple[str, ...]) -> None:
    for key in item:
        if key not in keys:
            raise RulesError(f"there is no `{key}` here", item.lines[key], _closest(key, keys))


def _choice(item: Mapping, key: str, among: tuple[str, ...], default: str) -> str:
    given = item.get(key, default)
    if given not in among:
        hint = _closest(str(given), among)
        raise RulesError(f"`{key}` cannot be {given!r}", item.lines[key], hint)
    return str(given)


def _text(item: Mapping, key: str, default: str, *, most: int) -> str:
    given = item.get(key, default)
    if not isinstance(given, str) or len(given) > most or not given.isprintable():
        raise RulesError(f"`{key}` must be one line of up to {most} characters", item.lines[key])
    return given


def _closest(given: str, among: tuple[str, ...]) -> str:
    close = get_close_matches(given, among, n=1)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(among)}"
