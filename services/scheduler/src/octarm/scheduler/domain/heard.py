"""What a script sees of the fleet and of the last minute, made up when it is asked."""

from collections.abc import Mapping
from typing import Final

from octarm.models.hot import ResultKey
from octarm.policies.context import InstanceFacts
from octarm.policies.queue.estimates import Estimates, kind_of
from octarm.policies.queue.heard import Account, Heard
from octarm.policies.queue.pace import Minute
from octarm.policies.queue.tasks import Task
from octarm.scheduler.domain.fleet import Fleet, Instance

MICRO: Final = 1_000_000


class Recent:
    """Counts what was placed, and what ended while there is somebody to see it.

    Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self.estimates = Estimates()
        self.placed = Minute()
        self._completed = Minute()
        self._failed = Minute()

    def ended(self, result: ResultKey, task: Task | None, *, now: float) -> None:
        """Count an attempt that ended; of a task that is known, learn what its like take."""
        succeeded = bytes(result.error) == b"null"
        if task is not None:
            kind, cost = kind_of(task.needs), result.cost_dollars * MICRO
            took_ms = float(result.execution_time_ms)
            self.estimates.learn(result.arm_id, kind, took_ms, cost, succeeded=succeeded)
        (self._completed if succeeded else self._failed).add(1, now=now)

    def heard(
        self, fleet: Fleet, accounts: Mapping[str, Account], *, now: float, now_s: float
    ) -> Heard:
        """Put together what a script sees; `now_s` is in Unix seconds."""
        instances, ages = {}, {}
        for arm_id, pool in fleet.pools.items():
            if pool.instances:
                last = max(it.beat_at for it in pool.instances.values())
                ages[arm_id] = max(int((now - last) * 1000), 0)
                instances[arm_id] = tuple(
                    [
                        _facts(name, pool.instances[name], unix_s=now_s - now)
                        for name in sorted(pool.instances)
                    ]
                )
        placed, completed, failed = (
            it.count(now) for it in (self.placed, self._completed, self._failed)
        )
        return Heard(instances, ages, placed, completed, failed, self.estimates, accounts)


def _facts(name: str, it: Instance, *, unix_s: float) -> InstanceFacts:
    """Say what an instance is; `unix_s` is what makes Unix seconds of monotonic ones."""
    return InstanceFacts(
        name,
        "ready" if it.ready else "draining",
        it.slots,
        len(it.running),
        0 if it.used_at is None else int((it.used_at + unix_s) * 1000),
        it.runs,
    )
