"""What work took and cost of late, by what it needs and on which arm."""

from collections.abc import Iterable
from typing import Final

from octarm.policies.context import Observed

MOST: Final = 4096
# The newest attempt weighs at least so much, so that what has changed shows after some twenty.
NEWEST: Final = 0.05
ANYWHERE: Final = ""


def kind_of(needs: Iterable[str]) -> str:
    """Name tasks that need the same: their capabilities in order."""
    return " ".join(sorted(needs))


class _Mean:
    """Smoothed figures of one kind of work; time and cost are those of attempts that succeeded."""

    __slots__ = ("cost", "ms", "runs", "succeeded", "success")

    def __init__(self) -> None:
        self.runs = 0
        self.succeeded = 0
        self.ms = 0.0
        self.cost = 0.0
        self.success = 0.0

    def take(self, ms: float, cost: float, *, succeeded: bool) -> None:
        self.runs += 1
        self.success += max(1 / self.runs, NEWEST) * (succeeded - self.success)
        if succeeded:
            self.succeeded += 1
            weight = max(1 / self.succeeded, NEWEST)
            self.ms += weight * (ms - self.ms)
            self.cost += weight * (cost - self.cost)

    def seen(self) -> Observed:
        return Observed(round(self.ms), round(self.cost), round(self.success, 4), self.runs)


class Estimates:
    """Learns from results; what was not heard of for longest is forgotten beyond `most` entries."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._means: dict[tuple[str, str], _Mean] = {}

    def learn(self, arm_id: str, kind: str, ms: float, cost: float, *, succeeded: bool) -> None:
        """Take an attempt that ended: milliseconds, micro-dollars."""
        for where in (ANYWHERE, arm_id):
            key = (kind, where)
            mean = self._means.pop(key, None) or _Mean()
            mean.take(ms, cost, succeeded=succeeded)
            self._means[key] = mean
        while len(self._means) > self._most:
            del self._means[next(iter(self._means))]

    def anywhere(self, kind: str) -> Observed | None:
        """Say what such work took, wherever it ran; None before the first success."""
        mean = self._means.get((kind, ANYWHERE))
        return mean.seen() if mean is not None and mean.succeeded else None

    def by_arm(self, kinds: Iterable[str], *, most: int) -> dict[str, dict[str, Observed]]:
        """Give what such work took on each arm, by arm and kind: the `most` that ended last."""
        wanted = set(kinds)
        found: dict[str, dict[str, Observed]] = {}
        for (kind, where), mean in reversed(self._means.items()):
            if most and where != ANYWHERE and kind in wanted:
                found.setdefault(where, {})[kind] = mean.seen()
                most -= 1
        return found
