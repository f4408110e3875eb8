"""What a policy sees in one cycle: frozen facts, cheap to build and to send.

Times are milliseconds; those that end in `_at` or are named `now_ms` and `deadline_ms` count
from the Unix epoch. Money is micro-dollars.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

WINDOW: Final = 256

Tier = Literal["interactive", "batch"]
ArmStatus = Literal["online", "degraded", "draining", "offline"]
InstanceStatus = Literal["ready", "draining"]


class TaskFacts(Struct, frozen=True, gc=False):
    """A task that waits; `slots` is how many of an arm's slots it takes."""

    id: str
    tenant: str = "default"
    session: str = ""
    tier: Tier = "interactive"
    priority: int = 5
    needs: frozenset[str] = frozenset()
    labels: dict[str, str] = {}
    queued_at: int = 0
    wait_ms: int = 0
    attempt: int = 1
    deadline_ms: int | None = None
    est_ms: int = 0
    est_cost: int = 0
    slots: int = 1
    assigned_arm: str | None = None


class InstanceFacts(Struct, frozen=True, gc=False):
    """One process of an arm; `last_used_at` and `runs` are what LRU and LFU go by."""

    id: str
    status: InstanceStatus = "ready"
    slots: int = 1
    running: int = 0
    last_used_at: int = 0
    runs: int = 0


class Observed(Struct, frozen=True, gc=False):
    """What attempts of one kind took and cost of late; of those that succeeded, `runs` of all."""

    ms: int = 0
    cost: int = 0
    success: float = 1.0
    runs: int = 0


class ArmFacts(Struct, frozen=True, gc=False):
    """An arm; `free` is what can take work now, `load` is 0 to 1, so is `success_rate`.

    `largest` is how many slots its largest instance has (0: nobody has said), `widest` how many of
    one instance were free when last heard of (None: all that are free). `observed` is what ended
    here of late, by the needs of the tasks in order, with a space between.
    """

    id: str
    status: ArmStatus = "online"
    capabilities: frozenset[str] = frozenset()
    cost_tier: int = 1
    slots: int = 1
    free: int = 1
    running: int = 0
    load: float = 0.0
    avg_latency_ms: float = 0.0
    success_rate: float = 1.0
    heartbeat_age_ms: int = 0
    labels: dict[str, str] = {}
    takes_any: bool = True
    instances: tuple[InstanceFacts, ...] = ()
    largest: int = 0
    widest: int | None = None
    observed: dict[str, Observed] = {}


class TenantLimits(Struct, frozen=True, gc=False):
    """What a tenant may use at most; None is no limit."""

    running: int | None = None
    cost_per_day: int | None = None
    tokens_per_day: int | None = None


class TenantFacts(Struct, frozen=True, gc=False):
    """A tenant: its share, what it runs and has spent since midnight UTC."""

    id: str
    weight: float = 1.0
    running: int = 0
    limits: TenantLimits = TenantLimits()
    spent_today: int = 0
    tokens_today: int = 0


class Metrics(Struct, frozen=True, gc=False):
    """Counts over the whole queue and fleet of the shard, not only over the window."""

    queue_depth: int = 0
    queue_depth_interactive: int = 0
    queue_depth_batch: int = 0
    avg_wait_ms: float = 0.0
    oldest_wait_ms: int = 0
    arms: int = 0
    arms_online: int = 0
    arms_degraded: int = 0
    arms_offline: int = 0
    slots: int = 0
    slots_free: int = 0
    running: int = 0
    placed_last_minute: int = 0
    completed_last_minute: int = 0
    failed_last_minute: int = 0


class Config(Struct, frozen=True, gc=False):
    """The settings of the deployment that a policy may go by.

    Each `ageing_ms` of waiting counts for one step of priority; batch work counts as interactive
    after `promote_after_ms`.
    """

    mode: Literal["home", "platform"] = "home"
    queue_capacity: int = 100_000
    full_policy: Literal["reject", "drop_lru", "shed_batch"] = "reject"
    ageing_ms: int = 60_000
    promote_after_ms: int = 300_000
    timeout_ms: int = 300_000
    eviction: Literal["lru", "lfu", "manual"] = "lru"
    evict_above: float = 0.9


class Context(Struct, frozen=True):
    """Everything one decision may depend on; the same context gives the same decision.

    `queue` is a window in the order of the queue, `arms` is sorted by id, `cycle` counts the
    scheduler's cycles so that policies can take turns without keeping state.
    """

    now_ms: int
    queue: Annotated[tuple[TaskFacts, ...], Meta(max_length=WINDOW)] = ()
    arms: tuple[ArmFacts, ...] = ()
    tenants: dict[str, TenantFacts] = {}
    metrics: Metrics = Metrics()
    config: Config = Config()
    cycle: int = 0
