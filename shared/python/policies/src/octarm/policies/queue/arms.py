"""The arms as placing sees them: facts of the directory, slots in use, headroom of providers."""

from collections.abc import Callable, Iterable
from typing import Final

from octarm.policies.context import ArmFacts
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.governors import ProviderLimits, Providers, provider_key
from octarm.policies.queue.groups import Groups
from octarm.policies.queue.ranking import Key
from octarm.policies.queue.spare import Spare

LOG: Final = 4096

Prefer = Callable[[Arm], Key]
Fit = Callable[[Arm, frozenset[str]], float]


class Arms:
    """All arms by id, and the groups of tasks that they can take.

    `epoch` grows when the directory changes; a log tells of arms that have become more liked;
    `freed` gathers those that may have more room, until the queue has woken who waits for them.
    `slots` is how many slots all of them have, `resized` grows when any of them has others.
    """

    def __init__(
        self,
        prefer: Prefer,
        *,
        fit: Fit | None = None,
        providers: Iterable[ProviderLimits] = (),
    ) -> None:
        self.prefer = prefer
        self.fit = fit
        self.by_id: dict[str, Arm] = {}
        self.providers = Providers(providers)
        self.epoch = 0
        self.slots = 0
        self.resized = 0
        self.spare = Spare(0.0)
        self.freed: dict[Arm, None] = {}
        self._turn = 0
        self._paused: dict[Arm, None] = {}
        self._log: list[Arm] = []
        self.log_end = 0
        self.groups = Groups(self)

    def since(self, cursor: int) -> dict[Arm, None] | None:
        """Give the arms that have improved since `cursor`; None when that is forgotten."""
        log_start = self.log_end - len(self._log)
        if cursor < log_start:
            return None
        return dict.fromkeys(self._log[cursor - log_start :])

    def facts(self) -> list[ArmFacts]:
        """Give what the directory says, by id, so that the order of learning does not matter."""
        return [self.by_id[arm_id].facts for arm_id in sorted(self.by_id)]

    def learn(self, facts: ArmFacts, *, now: float, before: Arm | None = None) -> Arm:
        """Take what the directory says about an arm; its slots come from `report`.

        `before` is the arm as it was known before the directory named it, if it was.
        """
        arm = self.by_id.get(facts.id)
        if arm is None:
            arm = self.by_id[facts.id] = before or Arm(facts)
            self._resize(arm.slots)
        elif arm.facts == facts:
            return arm
        arm.facts = facts
        arm.governor = self.providers.governor(provider_key(facts.labels), now)
        self._changed(arm)
        return arm

    def unlearn(self, arm_id: str) -> None:
        """Take that the directory has lost an arm; what it runs is given back later."""
        if (arm := self.by_id.pop(arm_id, None)) is not None:
            self._paused.pop(arm, None)
            arm.paused_until = 0.0
            self._resize(-arm.slots)
            self.unreserve(arm)
            self._changed(arm)

    def report(
        self,
        arm: Arm,
        *,
        slots: int,
        load: float = 0.0,
        latency_s: float = 0.0,
        success: float = 1.0,
        largest: int | None = None,
        widest: int | None = None,
    ) -> None:
        """Take what an arm says about itself; it is one instance unless that is given."""
        one = slots if largest is None else largest, slots if widest is None else widest
        said = (slots, load, latency_s, success, *one)
        if said != (arm.slots, arm.load, arm.latency_s, arm.success, arm.largest, arm.widest):
            if slots != arm.slots and self.by_id.get(arm.facts.id) is arm:
                self._resize(slots - arm.slots)
            arm.slots, arm.load, arm.latency_s, arm.success, arm.largest, arm.widest = said
            self._improved(arm)

    def take(self, arm: Arm, slots: int, tokens: int, *, now: float) -> int:
        """Take slots of an arm, and headroom of its provider; gives the tokens thought of."""
        self._turn += 1
        arm.turn = self._turn
        arm.used += slots
        arm.recount()
        if arm.governor is None:
            return 0
        thought = arm.governor.take(tokens, now)
        self.providers.watch(arm.governor, now)
        return thought

    def hold(self, arm: Arm, slots: int) -> None:
        """Count slots that others have placed on, or that were found in use."""
        arm.used += slots
        arm.recount()

    def give_back(self, arm: Arm, slots: int) -> None:
        """Give slots back when an attempt has ended."""
        arm.used -= slots
        self._improved(arm)

    def pause(self, arm: Arm, *, until: float) -> None:
        """Place nothing on an arm until then."""
        arm.paused_until = until
        self._paused[arm] = None
        self._improved(arm)

    def end_pause(self, arm: Arm) -> None:
        """Place on an arm again."""
        if arm in self._paused:
            del self._paused[arm]
            arm.paused_until = 0.0
            self._improved(arm)

    def stay_away(self, arm: Arm, retry_after_s: float, *, now: float) -> None:
        """Honour `Retry-After` for all arms that call the same provider; others are paused."""
        if arm.governor is None:
            self.pause(arm, until=now + retry_after_s)
        else:
            arm.governor.stay_away(retry_after_s, now)
            self.providers.watch(arm.governor, now)

    def settle(self, arm: Arm, *, thought: int, used: int, now: float) -> None:
        """Count the tokens that a task really used of its provider."""
        if arm.governor is not None:
            arm.governor.settle(thought, used, now)
            self.providers.watch(arm.governor, now)

    def resume(self, now: float) -> None:
        """End the pauses and closures that are over."""
        for arm in [arm for arm in self._paused if arm.paused_until <= now]:
            self.end_pause(arm)
        for governor in self.providers.resume(now):
            for arm in self.by_id.values():
                if arm.governor is governor:
                    self._improved(arm)

    def next_timer(self) -> float | None:
        """Say when `resume` next has something to do."""
        times = [arm.paused_until for arm in self._paused]
        if (at := self.providers.next_timer()) is not None:
            times.append(at)
        return min(times, default=None)

    def prefer_by(self, prefer: Prefer, fit: Fit | None) -> None:
        """Like arms by other criteria; nobody may wait."""
        self.prefer = prefer
        self.fit = fit
        self.epoch += 1
        for arm in self.by_id.values():
            arm.version += 1
        self.groups.waiting()

    def forget_groups(self) -> None:
        """Forget who waits, with a queue that is no more: its tasks must not be placed."""
        self.groups.forget()
        for arm in self.by_id.values():
            arm.reserved = None
            arm.kept = 0
            self._improved(arm)

    def unreserve(self, arm: Arm | None) -> None:
        """Let everybody use an arm again."""
        if arm is not None and arm.reserved is not None:
            arm.reserved.reserved = None
            arm.reserved = None
            self._improved(arm)

    def keep_spare(self) -> None:
        """Keep as many slots as are to be kept now, which may make room for those who wait."""
        for arm in self.spare.spread(self.by_id.values(), version=self.resized):
            self._improved(arm)

    def _resize(self, more: int) -> None:
        self.slots += more
        self.resized += 1

    def _changed(self, arm: Arm) -> None:
        """Note a change of the directory: whoever waits may have other arms now."""
        self.epoch += 1
        self._improved(arm)

    def _improved(self, arm: Arm) -> None:
        arm.recount()
        self.freed[arm] = None
        self._log.append(arm)
        self.log_end += 1
        if len(self._log) > LOG + 4 * len(self.by_id):
            # Who reads it in every cycle still finds what is new there.
            del self._log[: len(self._log) // 2]
