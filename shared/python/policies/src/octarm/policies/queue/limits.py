"""Limits by key: how many tasks of a key may run at once, and how many may start a second.

A key is a CEL expression over the task, evaluated once when the task comes. What has no key
(an empty one) is not limited.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import cel

from octarm.policies.queue.buckets import Bucket
from octarm.policies.queue.lanes import Blocker
from octarm.policies.queue.orders import Order
from octarm.policies.queue.tasks import TIERS, Task

MAX_EXPRESSION: Final = 256
# The key of tasks whose key cannot be said: they are limited together rather than not at all.
UNSAID: Final = "?"
QUOTA: Final = "quota of running tasks"
_MACROS: Final = re.compile(r"\.\s*(all|exists|exists_one|map|filter)\s*\(")
_SWEEP_FROM: Final = 1024


class BadExpression(ValueError):
    """A key that is not CEL, or that may take long to say."""


@dataclass(frozen=True, slots=True)
class LimitRule:
    """At most `concurrency` running tasks, and `rate_per_s` starts (`burst` at once), per key."""

    name: str
    key: str
    concurrency: int | None = None
    rate_per_s: float | None = None
    burst: float = 1.0


class Limit(Blocker):
    """The room within one rule for one key."""

    __slots__ = ("_bucket", "key", "rule", "used")

    def __init__(self, rule: LimitRule, key: str, waiting: Order, *, now: float) -> None:
        super().__init__(waiting)
        self.rule = rule
        self.key = key
        self.used = 0
        rate = rule.rate_per_s
        self._bucket = None if rate is None else Bucket(rate, max(rule.burst, 1.0), now=now)

    def has_room(self, now: float) -> bool:
        """Whether one more task of the key may start now."""
        return self.within_concurrency() and self.ready_at(now) <= now

    def within_concurrency(self) -> bool:
        """Whether one more may run."""
        return self.rule.concurrency is None or self.used < self.rule.concurrency

    def look_again_at(self, task: Task, patience_s: float, *, now: float) -> float | None:
        """Say when the rate lets one more start, unless only an ending can help."""
        return self.ready_at(now) if self.within_concurrency() else None

    def ready_at(self, now: float) -> float:
        """Say when the rate lets one more start."""
        return now if self._bucket is None else self._bucket.ready_at(1.0, now)

    def take(self, now: float) -> None:
        """Count a task that starts."""
        self.used += 1
        if self._bucket is not None:
            self._bucket.take(1.0, now)

    def give_back(self) -> None:
        """Count a task that has ended."""
        self.used -= 1

    def idle(self, now: float) -> bool:
        """Whether forgetting it would change nothing."""
        full = self._bucket is None or self._bucket.level(now) >= self._bucket.burst
        return full and not self.used and not self.lanes


class Limits:
    """What each rule has room for by key; `running` says how many a tenant may run.

    `rules` says whether there are any.
    """

    def __init__(
        self, rules: Iterable[LimitRule] = (), *, running: Mapping[str, int] | None = None
    ) -> None:
        self._quotas = {
            tenant: LimitRule(QUOTA, "task.tenant", most)
            for tenant, most in (running or {}).items()
        }
        self._rules = [(rule, compiled(rule.key)) for rule in rules]
        self.rules = bool(self._quotas or self._rules)
        self._limits: dict[tuple[str, str], Limit] = {}
        self._sweep_at = _SWEEP_FROM

    def __len__(self) -> int:
        return len(self._limits)

    def of(self, task: Task, order: Callable[[], Order], *, now: float) -> tuple[Limit, ...]:
        """Give the limits that a task is under, in the order of the rules."""
        found = []
        if (quota := self._quotas.get(task.tenant)) is not None:
            found.append(self._limit(quota, task.tenant, order, now))
        if not self._rules:
            return tuple(found)
        facts: dict[str, object] = {"task": _facts(task)}
        for rule, key_of in self._rules:
            if key := key_of(facts):
                found.append(self._limit(rule, key, order, now))
        return tuple(found)

    def renew(self, order: Callable[[], Order]) -> None:
        """Give every limit a new order of who waits; nobody may."""
        for limit in self._limits.values():
            limit.waiting = order()

    def _limit(self, rule: LimitRule, key: str, order: Callable[[], Order], now: float) -> Limit:
        limit = self._limits.get((rule.name, key))
        if limit is None:
            if len(self._limits) >= self._sweep_at:
                kept = {name: it for name, it in self._limits.items() if not it.idle(now)}
                self._limits = kept
                self._sweep_at = 2 * len(kept) + _SWEEP_FROM
            limit = self._limits[rule.name, key] = Limit(rule, key, order(), now=now)
        return limit


def compiled(expression: str) -> Callable[[dict[str, object]], str]:
    """Compile a key.

    Raises:
        BadExpression: it does not parse, is too long, names other things than `task`, or walks
            through lists, which could take long for each task.
    """
    if len(expression) > MAX_EXPRESSION:
        raise BadExpression(f"longer than {MAX_EXPRESSION} characters")
    try:
        program = cel.compile(expression)
    except ValueError as error:
        raise BadExpression(str(error)) from error
    if strange := sorted(set(program.variables()) - {"task"}):
        raise BadExpression(f"only `task` is known, not {', '.join(strange)}")
    if _MACROS.search(expression):
        raise BadExpression("a key may not walk through lists")

    def key_of(facts: dict[str, object]) -> str:
        try:
            value = program.execute(facts)
        except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError):
            return UNSAID
        return value if isinstance(value, str) else str(value)

    return key_of


def _facts(task: Task) -> dict[str, object]:
    return {
        "tenant": task.tenant,
        "session": task.session,
        "tier": TIERS[task.tier],
        "priority": task.priority,
        "needs": sorted(task.needs),
        "labels": task.labels,
        "assigned_arm": task.assigned_arm or "",
        "attempt": task.attempt,
        "slots": task.slots,
    }
