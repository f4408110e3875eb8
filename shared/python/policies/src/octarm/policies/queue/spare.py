"""Slots that are kept free for tenants that want less than their share.

Without them a tenant that has filled everything makes all others wait for an ending, however
little they want. They are kept only while more than one tenant is about: who is alone has all.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from octarm.policies.queue.shares import Share

if TYPE_CHECKING:
    from octarm.policies.queue.arm import Arm

K = TypeVar("K")

# A tenant counts for so long after its last task came.
ABOUT_S: Final = 300.0


class Spare:
    """Which slots are kept, and who may use them.

    `keep` is the share of all slots that is kept, in whole slots and spread over the arms in the
    order of their ids; `part` is the part of each tenant's work that is seen here, one of so
    many shards. Times are Unix seconds.
    """

    def __init__(self, keep: float, *, part: float = 1.0) -> None:
        self.keep = keep
        self._part = part
        self._about: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._weight = 0.0
        self._slots = 0
        # No `Counter`: what it does not hold, which is usual here, costs it a call in Python.
        self._used: dict[str, int] = {}
        self._used_on: dict[tuple[str, str], int] = {}
        self._spread = (-1, False)

    def seen(self, share: Share, now: float) -> None:
        """Take that a tenant is about."""
        if self._about.pop(share.name, None) is None:
            self._weights[share.name] = share.weight
            self._weight += share.weight
        self._about[share.name] = now

    def forget(self, now: float, *, busy: Callable[[str], bool]) -> None:
        """Forget who has not been about, and neither waits nor runs."""
        while self._about:
            tenant, at = next(iter(self._about.items()))
            if at + ABOUT_S > now:
                break
            del self._about[tenant]
            if busy(tenant):
                self._about[tenant] = now
            else:
                self._weight -= self._weights.pop(tenant)

    def spread(self, arms: Iterable["Arm"], *, version: int) -> list["Arm"]:
        """Say which arms keep how many; gives those that keep another number than before.

        `version` is that of their slots: nothing is counted again before it changes, or before
        it matters or does not matter any more.
        """
        on = self.keep > 0 and len(self._about) > 1
        if (version, on) == self._spread:
            return []
        self._spread = version, on
        slots, kept, changed = 0, 0, []
        for arm in sorted(arms, key=lambda arm: arm.facts.id):
            slots += arm.slots
            most = int(slots * self.keep) - kept if on else 0
            kept += most
            if most != arm.kept:
                arm.kept = most
                changed.append(arm)
        self._slots = slots
        return changed

    def take(self, tenant: str, arm: "Arm", slots: int) -> None:
        """Count slots that a tenant has got; a negative number gives back."""
        _count(self._used, tenant, slots)
        _count(self._used_on, (tenant, arm.facts.id), slots)

    def clear(self) -> None:
        """Forget who has got what: it is counted anew."""
        self._used.clear()
        self._used_on.clear()

    def may_use(self, share: Share, arm: "Arm") -> bool:
        """Whether a tenant may use one free slot of an arm, though it be one that is kept.

        It may if all that it runs and waits for is within its share of all slots, and what it
        runs here within its share of the arm's, by weight among those that are about.
        """
        if arm.free > arm.kept:
            return True
        part = share.weight / max(self._weight, share.weight) * self._part
        if self._used.get(share.name, 0) + share.waiting > max(self._slots * part, 1):
            return False
        return self._used_on.get((share.name, arm.facts.id), 0) < max(arm.slots * part, 1)


def _count(used: dict[K, int], key: K, slots: int) -> None:
    """Add to a number; of zero nothing stays, or every tenant and arm would that ever met."""
    total = used.get(key, 0) + slots
    if total:
        used[key] = total
    else:
        used.pop(key, None)
