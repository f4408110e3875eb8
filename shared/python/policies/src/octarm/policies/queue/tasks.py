"""One waiting task as the queue keeps it."""

from typing import TYPE_CHECKING, Final

from octarm.policies.context import Observed, TaskFacts, Tier

if TYPE_CHECKING:
    from octarm.policies.queue.lanes import Lane

INTERACTIVE: Final = 0
BATCH: Final = 1
TIERS: Final[tuple[Tier, Tier]] = ("interactive", "batch")
SESSION_LABEL: Final = "session"


class Task:
    """A task that waits; `lane` is where, None once it has left.

    Times are Unix seconds, durations seconds, costs micro-dollars. `slots` is how many slots of
    an arm it takes, `tokens` what it is thought to need of a provider. `payload` is the caller's
    own: nothing here looks at it.
    """

    __slots__ = (
        "assigned_arm",
        "attempt",
        "deadline",
        "est_cost",
        "est_s",
        "labels",
        "lane",
        "needs",
        "payload",
        "priority",
        "promoted",
        "queued_at",
        "rank",
        "session",
        "slots",
        "task_id",
        "tenant",
        "tier",
        "tokens",
    )

    def __init__(
        self,
        task_id: str,
        *,
        queued_at: float,
        tenant: str = "default",
        tier: int = INTERACTIVE,
        priority: int = 5,
        needs: frozenset[str] = frozenset(),
        labels: dict[str, str] | None = None,
        assigned_arm: str | None = None,
        attempt: int = 1,
        deadline: float | None = None,
        slots: int = 1,
        est_s: float = 0.0,
        est_cost: int = 0,
        tokens: int = 0,
        payload: object = None,
    ) -> None:
        self.task_id = task_id
        self.queued_at = queued_at
        self.tenant = tenant
        self.tier = tier
        self.priority = priority
        self.needs = needs
        self.labels = labels or {}
        self.session = self.labels.get(SESSION_LABEL, "")
        self.assigned_arm = assigned_arm
        self.attempt = attempt
        self.deadline = deadline
        self.slots = slots
        self.est_s = est_s
        self.est_cost = est_cost
        self.tokens = tokens
        self.payload = payload
        self.rank = 0.0
        self.promoted = False
        self.lane: Lane | None = None

    def facts(self, now: float, like: Observed | None = None) -> TaskFacts:
        """Give what a policy sees of it; `like` is what such tasks took where nothing is said."""
        return TaskFacts(
            id=self.task_id,
            tenant=self.tenant,
            session=self.session,
            tier=TIERS[self.tier],
            priority=self.priority,
            needs=self.needs,
            labels=self.labels,
            queued_at=int(self.queued_at * 1000),
            wait_ms=max(int((now - self.queued_at) * 1000), 0),
            attempt=self.attempt,
            deadline_ms=None if self.deadline is None else int(self.deadline * 1000),
            est_ms=int(self.est_s * 1000) or (like.ms if like else 0),
            est_cost=self.est_cost or (like.cost if like else 0),
            slots=self.slots,
            assigned_arm=self.assigned_arm,
        )
