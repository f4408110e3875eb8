"""What a scripted policy sees of the queue, and how its actions take effect."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Final

from octarm.policies.actions import (
    Action,
    Dispatch,
    Dropped,
    Reject,
    Wait,
    not_carried_out,
)
from octarm.policies.context import (
    WINDOW,
    ArmFacts,
    Config,
    Context,
    Metrics,
    Observed,
    TenantFacts,
)
from octarm.policies.eligibility import Refusal
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.cycle import limit_of
from octarm.policies.queue.estimates import kind_of
from octarm.policies.queue.groups import Group
from octarm.policies.queue.heard import NO_ACCOUNT, NOTHING_HEARD, Heard
from octarm.policies.queue.lanes import Lane
from octarm.policies.queue.queue import Queue
from octarm.policies.queue.tasks import BATCH, INTERACTIVE, Task

# So that a context stays small: what is left out is what ended longest ago.
MOST_OBSERVED: Final = 1024


@dataclass(frozen=True, slots=True)
class Sent:
    """A task that a script placed, and why."""

    task: Task
    arm: Arm
    reason: str
    score: float | None


@dataclass(slots=True)
class Applied:
    """What came of a script's answer; `retry_after_s` is when it wants to be asked again."""

    sent: list[Sent] = field(default_factory=list)
    rejected: list[tuple[Task, str]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    retry_after_s: float | None = None


def window(queue: Queue, now: float, *, size: int = WINDOW) -> list[Task]:
    """Give the first tasks that could be placed now, in the order of tier, rank and id.

    While shares count, a tenant has its part of the window only, so that a script sees what
    others want however much one of them has sent.
    """
    board = queue.board
    board.wake_all(now)
    rooms: dict[Group, bool] = {}
    tiers: tuple[list[Lane], list[Lane]] = ([], [])
    for lane in board.awake.lanes():
        group = lane.group
        room = rooms.get(group)
        if room is None:
            room = rooms[group] = group.has_room(now)
        blocker = limit_of(lane, now) if room else group
        if blocker is None:
            tiers[lane.tier].append(lane)
        else:
            board.sleep(lane, blocker, now=now)
    found: list[Task] = []
    for tier in (INTERACTIVE, BATCH):
        if len(found) < size:
            found += _fairly(tiers[tier], size - len(found))
    return found


def _fairly(lanes: Sequence[Lane], size: int) -> list[Task]:
    """Take tasks of the lanes' tenants in turn, by weight; then put them in order."""
    by_tenant: dict[str, list[Lane]] = {}
    for lane in lanes:
        by_tenant.setdefault(lane.path[0].name if lane.path else "", []).append(lane)
    turns = []
    for name, theirs in by_tenant.items():
        path = theirs[0].path
        tasks = _merged(theirs)
        turns.append(
            (path[0].virtual if path else 0.0, name, path[0].weight if path else 1.0, tasks)
        )
    heapify(turns)
    taken: list[Task] = []
    while turns and len(taken) < size:
        virtual, name, weight, tasks = turns[0]
        task = next(tasks, None)
        if task is None:
            heappop(turns)
        else:
            taken.append(task)
            heapreplace(turns, (virtual + task.slots / weight, name, weight, tasks))
    taken.sort(key=_order)
    return taken


def _merged(lanes: Sequence[Lane]) -> Iterator[Task]:
    """Give the tasks of lanes in order; of most lanes only the first is ever looked at."""
    heads: list[tuple[float, str, Task, Lane, Iterator[Task] | None]] = []
    for lane in lanes:
        first = lane.first()
        heads.append((first.rank, first.task_id, first, lane, None))
    heapify(heads)
    while heads:
        _, _, task, lane, rest = heads[0]
        yield task
        if rest is None:
            rest = lane.walk()
            next(rest)
        after = next(rest, None)
        if after is None:
            heappop(heads)
        else:
            heapreplace(heads, (after.rank, after.task_id, after, lane, rest))


def _order(task: Task) -> tuple[float, str]:
    return task.rank, task.task_id


def context(
    queue: Queue,
    tasks: Sequence[Task],
    *,
    now: float,
    cycle: int = 0,
    config: Config | None = None,
    heard: Heard = NOTHING_HEARD,
) -> Context:
    """Give what a policy sees of a window, the arms and those whose tasks wait or run."""
    arms = queue.arms.by_id
    weights = queue.board.shares.weights
    tenants = {
        name: TenantFacts(
            id=name,
            weight=weights.get(name, 1.0),
            running=queue.running[name],
            limits=account.limits,
            spent_today=account.spent_today,
            tokens_today=account.tokens_today,
        )
        for name in sorted({task.tenant for task in tasks})
        for account in (heard.accounts.get(name, NO_ACCOUNT),)
    }
    kinds = {needs: kind_of(needs) for needs in {task.needs for task in tasks}}
    like = {needs: heard.estimates.anywhere(kind) for needs, kind in kinds.items()}
    observed = heard.estimates.by_arm(kinds.values(), most=MOST_OBSERVED)
    return Context(
        now_ms=int(now * 1000),
        queue=tuple([task.facts(now, like[task.needs]) for task in tasks]),
        arms=tuple([_seen(arms[name], heard, observed.get(name)) for name in sorted(arms)]),
        tenants=tenants,
        metrics=_metrics(queue, now, heard),
        config=config or Config(),
        cycle=cycle,
    )


def apply(queue: Queue, actions: Sequence[Action], *, now: float) -> Applied:
    """Let checked actions take effect, in their order.

    `actions.check` has looked at each of them against the context; limits by key and the
    headroom of providers are looked at here, as every placing uses some of them up. So is
    whatever may have changed since the context was made: tasks that left, arms that are gone.
    """
    done = Applied(dropped=not_carried_out(actions))
    for action in actions:
        if isinstance(action, Wait) and action.retry_after_ms is not None:
            after_s = action.retry_after_ms / 1000
            done.retry_after_s = min(done.retry_after_s or after_s, after_s)
        if not isinstance(action, Dispatch | Reject):
            continue
        task = queue.get(action.task)
        if task is None:
            why = Refusal("gone", f"{action.task} does not wait any more")
            done.dropped.append(_dropped(action, why))
        elif isinstance(action, Reject):
            queue.remove(task)
            done.rejected.append((task, action.reason))
        elif (refused := _refusal(task, action.arm, now)) is not None:
            done.dropped.append(_dropped(action, refused))
        else:
            arm = queue.arms.by_id[action.arm]
            queue.fly(task, arm, now=now)
            done.sent.append(Sent(task, arm, action.reason, action.score))
    return done


def _dropped(action: Dispatch | Reject, why: Refusal) -> Dropped:
    return Dropped(why.kind, why.why, repr(action)[:200], action.task)


def _refusal(task: Task, arm_id: str, now: float) -> Refusal | None:
    lane = task.lane
    assert lane is not None, "it waits"
    lane.group.has_room(now)  # It reads what has changed.
    arm = lane.group.members.get(arm_id)
    if arm is None:
        return Refusal("arm_away", f"{arm_id} does not take it any more")
    if (limit := limit_of(lane, now)) is not None:
        return Refusal("limit", f"limit {limit.rule.name} of {limit.key} is reached")
    if lane.group.free(arm) < task.slots:
        return Refusal("headroom", f"{arm_id} has no room within its provider's headroom")
    return None


def _seen(arm: Arm, heard: Heard, observed: dict[str, Observed] | None) -> ArmFacts:
    name = arm.facts.id
    return arm.seen(
        instances=heard.instances.get(name, ()),
        heartbeat_age_ms=heard.beat_age_ms.get(name, 0),
        observed=observed,
    )


def _metrics(queue: Queue, now: float, heard: Heard) -> Metrics:
    arms = list(queue.arms.by_id.values())
    by_status = [arm.facts.status for arm in arms]
    # The queue keeps the order of arrival, so the first is as good as the oldest.
    first = next(iter(queue), None)
    oldest = now if first is None else first.queued_at
    return Metrics(
        queue_depth=len(queue),
        queue_depth_interactive=queue.depth[INTERACTIVE],
        queue_depth_batch=queue.depth[BATCH],
        oldest_wait_ms=max(int((now - oldest) * 1000), 0),
        arms=len(arms),
        arms_online=by_status.count("online"),
        arms_degraded=by_status.count("degraded"),
        arms_offline=by_status.count("offline"),
        slots=sum(arm.slots for arm in arms),
        slots_free=sum(arm.free for arm in arms),
        running=sum(arm.used for arm in arms),
        avg_wait_ms=queue.average_wait_s(now) * 1000,
        placed_last_minute=heard.placed,
        completed_last_minute=heard.completed,
        failed_last_minute=heard.failed,
    )
