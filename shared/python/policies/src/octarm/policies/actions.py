"""What a policy may ask for, and what the host makes of it.

A policy is not trusted: `check` looks at every action again. One that does not hold is dropped
with its reason; it never stops the others and never breaks an invariant.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Final, cast

import msgspec
from msgspec import Meta, Struct

from octarm.policies.context import ArmFacts, Context, TaskFacts, TenantFacts
from octarm.policies.eligibility import Refusal, eligible, refusal

MAX_ACTIONS: Final = 1024
MAX_REASON: Final = 200
MAX_RETRY_MS: Final = 3_600_000

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Reason = Annotated[str, Meta(max_length=MAX_REASON)]


class Dispatch(Struct, frozen=True, tag_field="action", tag="dispatch", gc=False):
    """Place a task on an arm; `score` is shown by explain."""

    task: Id
    arm: Id
    reason: Reason = ""
    score: float | None = None


class Wait(Struct, frozen=True, tag_field="action", tag="wait", gc=False):
    """Leave a task, or all that is not named, in the queue; look again after that long."""

    reason: Reason = ""
    retry_after_ms: Annotated[int, Meta(ge=1, le=MAX_RETRY_MS)] | None = None
    task: Id | None = None


class Evict(Struct, frozen=True, tag_field="action", tag="evict", gc=False):
    """Ask an idle instance to drain."""

    instance: Id
    reason: Reason = ""


class Start(Struct, frozen=True, tag_field="action", tag="start", gc=False):
    """Ask for one more instance of an arm."""

    arm: Id
    reason: Reason = ""


class Reject(Struct, frozen=True, tag_field="action", tag="reject", gc=False):
    """End a waiting task as rejected; its submitter is told the reason."""

    task: Id
    reason: Reason = ""


Action = Dispatch | Wait | Evict | Start | Reject
_ACTIONS: Final = (Dispatch, Wait, Evict, Start, Reject)


class Dropped(Struct, frozen=True, gc=False):
    """An action that the host did not take: a short kind to count by, and why in words.

    `action` is what was asked for as text, cut to 200 characters; `task` names the task when the
    action named one.
    """

    kind: str
    reason: str
    action: str
    task: str | None = None


class Checked(Struct, frozen=True):
    """What is left of a policy's answer, in its order, and what was dropped."""

    kept: tuple[Action, ...]
    dropped: tuple[Dropped, ...] = ()


def check(actions: Iterable[object], context: Context) -> Checked:
    """Keep the actions that hold against the context and the actions kept before them.

    Takes anything: what is not an action is dropped as `wrong_type`. All after the first
    `MAX_ACTIONS` are dropped together.
    """
    host = _Host(context)
    kept: list[Action] = []
    dropped: list[Dropped] = []
    for number, given in enumerate(actions):
        if number == MAX_ACTIONS:
            dropped.append(Dropped("too_many", f"more than {MAX_ACTIONS} actions", "the rest"))
            break
        action = _read(given)
        why = action if isinstance(action, Refusal) else host.refuse(action)
        if why is None:
            kept.append(cast("Action", action))
        else:
            task = getattr(action, "task", None)
            dropped.append(Dropped(why.kind, why.why, _shown(given), task))
    return Checked(tuple(kept), tuple(dropped))


def senseless(checked: Checked) -> str | None:
    """Say why an answer is as good as none: nothing in it holds, and for no reason that may pass.

    What waits then would wait for as long as the policy decides.
    """
    if checked.kept or not checked.dropped or {it.kind for it in checked.dropped} - _SENSELESS:
        return None
    return f"bad return: none of its actions holds: {checked.dropped[0].reason}"


_SENSELESS: Final = frozenset(
    {"wrong_type", "unknown_task", "unknown_arm", "unknown_instance", "incapable", "pinned"}
)


def _read(given: object) -> Action | Refusal:
    """Read an action from its struct or its mapping, or say why it is none."""
    try:
        if isinstance(given, _ACTIONS):
            # A struct that was built, not decoded, has never been checked.
            given = msgspec.to_builtins(given)
        if isinstance(given, dict):
            action: Action = msgspec.convert(given, Action)
            return action
    except (msgspec.ValidationError, TypeError) as error:
        return Refusal("wrong_type", str(error)[:MAX_REASON])
    return Refusal("wrong_type", f"not an action but {type(given).__name__}")


def _shown(given: object) -> str:
    if isinstance(given, (dict, list, tuple, str)) and len(given) > 20:
        return f"{type(given).__name__} of {len(given)}"
    return repr(given)[:200]


def not_carried_out(actions: Iterable[Action]) -> list[Dropped]:
    """Drop what holds and is not for the scheduler to do: it is never taken for done."""
    return [
        Dropped("unsupported", _UNSUPPORTED[type(it)], repr(it)[:200])
        for it in actions
        if isinstance(it, Evict | Start)
    ]


_UNSUPPORTED: Final[dict[type[Action], str]] = {
    Evict: "ending an instance is up to who runs the arm; `octarm arms drain` drains an arm",
    Start: "starting instances is up to who runs the arm",
}


class _Host:
    """Settles actions one after the other and remembers what they have taken."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tasks: dict[str, TaskFacts] = {task.id: task for task in context.queue}
        self._arms: dict[str, ArmFacts] = {arm.id: arm for arm in context.arms}
        self._idle = {it.id: it.running == 0 for arm in context.arms for it in arm.instances}
        self._settled: set[str] = set()
        self._taken = Counter[str]()
        self._started = Counter[str]()
        self._spent = Counter[str]()

    def refuse(self, action: Action) -> Refusal | None:
        """Say why the action does not hold; None when it does, and then it counts."""
        match action:
            case Dispatch():
                return self._dispatch(action)
            case Reject():
                return self._settle(action.task)
            case Evict():
                return self._evict(action)
            case Start():
                return self._start(action)
            case _:
                return self._wait(action)

    def _dispatch(self, action: Dispatch) -> Refusal | None:
        task, arm = self._tasks.get(action.task), self._arms.get(action.arm)
        if task is None:
            return Refusal("unknown_task", f"{action.task} is not in the window")
        if action.task in self._settled:
            return Refusal("duplicate", f"{action.task} was settled by an earlier action")
        if arm is None:
            return Refusal("unknown_arm", f"no arm {action.arm}")
        free = arm.free - self._taken[arm.id]
        if why := refusal(task, arm, free=free):
            return why
        if arm.status == "degraded" and arm not in eligible(task, self._context.arms):
            return Refusal("degraded", f"{arm.id} is degraded and others that suit are online")
        if why := self._deadline(task) or self._quota(task):
            return why
        self._settled.add(task.id)
        self._taken[arm.id] += task.slots
        self._started[task.tenant] += 1
        self._spent[task.tenant] += task.est_cost
        return None

    def _deadline(self, task: TaskFacts) -> Refusal | None:
        if task.deadline_ms is not None and task.deadline_ms <= self._context.now_ms:
            return Refusal("deadline", f"the deadline of {task.id} has passed")
        return None

    def _quota(self, task: TaskFacts) -> Refusal | None:
        tenant = self._context.tenants.get(task.tenant)
        if tenant is None:
            return None
        started, spent = self._started[tenant.id], self._spent[tenant.id] + task.est_cost
        if why := over_quota(tenant, running=started, cost=spent):
            return Refusal("quota", why)
        return None

    def _settle(self, task_id: str) -> Refusal | None:
        if task_id not in self._tasks:
            return Refusal("unknown_task", f"{task_id} is not in the window")
        if task_id in self._settled:
            return Refusal("duplicate", f"{task_id} was settled by an earlier action")
        self._settled.add(task_id)
        return None

    def _evict(self, action: Evict) -> Refusal | None:
        idle = self._idle.get(action.instance)
        if idle is None:
            return Refusal("unknown_instance", f"no instance {action.instance}")
        if not idle:
            return Refusal("busy", f"{action.instance} has running work")
        if f"evict {action.instance}" in self._settled:
            return Refusal("duplicate", f"{action.instance} is evicted by an earlier action")
        self._settled.add(f"evict {action.instance}")
        return None

    def _start(self, action: Start) -> Refusal | None:
        if action.arm not in self._arms:
            return Refusal("unknown_arm", f"no arm {action.arm}")
        return None

    def _wait(self, action: Wait) -> Refusal | None:
        if action.task is not None and action.task not in self._tasks:
            return Refusal("unknown_task", f"{action.task} is not in the window")
        return None


def over_quota(tenant: TenantFacts, *, running: int, cost: int) -> str:
    """Say which limit the tenant would pass with one more task; empty when none.

    `running` and `cost` are what was placed in this cycle already; `cost` includes the task's.
    """
    limits = tenant.limits
    if limits.running is not None and tenant.running + running >= limits.running:
        return f"{tenant.id} runs {tenant.running + running} of {limits.running} tasks"
    if limits.cost_per_day is not None and tenant.spent_today + cost > limits.cost_per_day:
        return f"{tenant.id} would pass its {limits.cost_per_day} micro-dollars a day"
    return ""
