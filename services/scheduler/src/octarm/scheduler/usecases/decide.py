"""Who decides what goes where: the policy that was deployed, or the platform's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from octarm.common.telemetry import get_logger, metrics
from octarm.models.hot import Score
from octarm.models.policies import DifferencesFound
from octarm.policies.actions import Checked, Dispatch, Dropped, Wait
from octarm.policies.builtin import fair_share
from octarm.policies.builtin.policy import Builtin
from octarm.policies.context import Config, Context
from octarm.policies.queue.heard import Account
from octarm.policies.queue.homes import Homes
from octarm.policies.queue.window import Applied, Sent, apply, context, window
from octarm.policies.sandbox.host import Verdict
from octarm.policies.supervisor import PLATFORM
from octarm.scheduler.domain.cycle import Placement, place
from octarm.scheduler.domain.tasks import QueuedTask
from octarm.scheduler.usecases.desk import Desk

MAX_TEXT: Final = 1000

log = get_logger()


class Scripts(Protocol):
    """The versions that were deployed; asking them takes a while and never fails."""

    @property
    def deciding(self) -> bool:
        """Whether a script is to be asked."""
        ...

    @property
    def watching(self) -> bool:
        """Whether a shadow is to be told what was decided."""
        ...

    async def decide(self, seen: Context) -> Verdict:
        """Ask the one that decides."""
        ...

    def show(self, seen: Context, decided: Checked) -> None:
        """Let the shadow compare, in its own time."""
        ...

    def name(self, version: str) -> str:
        """Give name@digest."""
        ...

    @property
    def active(self) -> str:
        """Name what decides."""
        ...

    def differences(self) -> DifferencesFound:
        """Say how the shadow has differed from what decides."""
        ...


@dataclass(frozen=True, slots=True)
class NoScripts:
    """Nothing is ever deployed."""

    deciding: bool = False
    watching: bool = False
    active: str = PLATFORM

    async def decide(self, seen: Context) -> Verdict:
        """Leave it to the platform."""
        return Verdict(PLATFORM)

    def show(self, seen: Context, decided: Checked) -> None:
        """Nobody watches."""

    def name(self, version: str) -> str:
        """Give what was given."""
        return version

    def differences(self) -> DifferencesFound:
        """Nothing has."""
        return DifferencesFound()


@dataclass(frozen=True, slots=True)
class Decided:
    """What one cycle does, and by which policy; `again_s` is when that wants to be asked again."""

    placements: Sequence[Placement]
    policy: str
    rejected: Sequence[tuple[QueuedTask, str]] = ()
    again_s: float | None = None


def _nothing_known(tenants: Sequence[str]) -> Mapping[str, Account]:
    return {}


@dataclass(slots=True)
class Decide:
    """Decides for one cycle; `accounts` gives those of tenants that a script is to see.

    While a script decides, the queue is kept in fair shares: what one tenant has sent leaves
    others their part of the window. In a cycle in which it gives nothing, `fair_share` places.
    """

    desk: Desk
    platform: Builtin
    scripts: Scripts = field(default_factory=NoScripts)
    config: Config = field(default_factory=Config)
    accounts: Callable[[Sequence[str]], Mapping[str, Account]] = _nothing_known
    _homes: Homes = field(default_factory=Homes)
    _cycle: int = 0

    async def __call__(self) -> Decided | None:
        """Decide; None when the lease was lost meanwhile."""
        queue, scripts = self.desk.queue, self.scripts
        wanted = fair_share.POLICY if scripts.deciding else self.platform
        self.desk.scripted = scripts.deciding
        # A shadow that is busy is not asked, and sees afterwards what has ended meanwhile.
        self.desk.seen = self.desk.seen or scripts.deciding or scripts.watching
        if queue.policy is not wanted:
            queue.use(wanted, now=self.desk.now_s())
        if not (scripts.deciding or scripts.watching):
            return self._by_platform()
        seen = self._seen()
        if not seen.queue:
            return Decided((), scripts.active if scripts.deciding else queue.policy.name)
        if not scripts.deciding:
            decided = self._by_platform()
            scripts.show(seen, _as_actions(decided.placements))
            return decided
        return await self._by_script(seen)

    async def _by_script(self, seen: Context) -> Decided | None:
        scripts, desk = self.scripts, self.desk
        verdict = await scripts.decide(seen)
        if not desk.may_place():
            return None
        if verdict.checked is None:
            desk.notes.clear()
            return self._by_platform()
        name = scripts.name(verdict.policy)
        done = apply(desk.queue, verdict.checked.kept, now=desk.now_s())
        dropped = [*verdict.checked.dropped, *done.dropped]
        for it in dropped:
            metrics.inc("octarm_scheduler_policy_dropped_total", policy=name, kind=it.kind)
        self._note(name, verdict.checked, dropped)
        if scripts.watching:
            scripts.show(seen, verdict.checked)
        return self._decided(name, done)

    def _decided(self, name: str, done: Applied) -> Decided:
        desk, now = self.desk, self.desk.clock.monotonic()
        placements = []
        for it in done.sent:
            task = _queued(it.task)
            pool = desk.fleet.placed(it.arm.facts.id, task, now=now)
            placements.append(Placement(task, pool, it.reason[:MAX_TEXT], [_score(it)]))
        rejected = [(_queued(task), reason) for task, reason in done.rejected]
        return Decided(placements, name, rejected, done.retry_after_s)

    def _by_platform(self) -> Decided:
        desk = self.desk
        placements = place(
            desk.queue,
            desk.fleet,
            self._homes,
            now=desk.now_s(),
            monotonic=desk.clock.monotonic(),
        )
        return Decided(placements, desk.queue.policy.name)

    def _seen(self) -> Context:
        self._cycle += 1
        queue, now = self.desk.queue, self.desk.now_s()
        tasks = window(queue, now)
        accounts = self.accounts(sorted({task.tenant for task in tasks}))
        monotonic = self.desk.clock.monotonic()
        heard = self.desk.recent.heard(self.desk.fleet, accounts, now=monotonic, now_s=now)
        return context(queue, tasks, now=now, cycle=self._cycle, config=self.config, heard=heard)

    def _note(self, name: str, checked: Checked, dropped: Sequence[Dropped]) -> None:
        """Keep what the policy said of those that wait, for those who ask why."""
        notes = self.desk.notes
        notes.clear()
        for action in checked.kept:
            if isinstance(action, Wait) and action.task is not None:
                notes[action.task] = f"{name} lets it wait: {action.reason or 'no reason given'}"
        for it in dropped:
            if it.task is not None:
                notes[it.task] = f"{name} asked for {it.action}: dropped, as {it.reason}"


def _queued(task: object) -> QueuedTask:
    assert isinstance(task, QueuedTask), "every task here came from READY"
    return task


def _score(it: Sent) -> Score:
    return Score(it.arm.facts.id, it.score or 0.0, it.reason[:MAX_TEXT])


def _as_actions(placements: Sequence[Placement]) -> Checked:
    return Checked(tuple([Dispatch(it.task.task_id, it.pool.arm_id) for it in placements]))
