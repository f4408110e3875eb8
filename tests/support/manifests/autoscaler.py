"""What KEDA and the horizontal autoscaler do with a ScaledObject, on virtual time.

As their documentation says: KEDA decides between none and one (activation, cooldown); from one on
the autoscaler wants ceil(metric / target), leaves deviations of 10 % alone, takes the highest of
the wishes within the window before it scales in, and keeps to the policies' paces.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.manifests.patching import Doc

SYNC_S: Final = 15
TOLERANCE: Final = 0.1


@dataclass
class Autoscaler:
    """Chooses the replicas of one ScaledObject; `now` is in whole seconds and only grows."""

    spec: Doc
    replicas: int = 0
    _wishes: list[tuple[int, int]] = field(default_factory=list)
    _changes: list[tuple[int, int]] = field(default_factory=list)
    _active_at: int = -(10**9)

    @property
    def target(self) -> float:
        """How much of the metric one replica is for."""
        return float(self.spec["triggers"][0]["metadata"]["targetValue"])

    def asks(self, now: int) -> bool:
        """Whether the metric is looked at in this second."""
        return now % self.spec["pollingInterval"] == 0 or now % SYNC_S == 0

    def tick(self, now: int, metric: float) -> int:
        """Let a second pass; gives the replicas that are wanted from now on."""
        if now % self.spec["pollingInterval"] == 0:
            self._activate(now, metric)
        if now % SYNC_S == 0 and self.replicas > 0:
            self._scale(now, metric)
        return self.replicas

    def _activate(self, now: int, metric: float) -> None:
        threshold = float(self.spec["triggers"][0]["metadata"].get("activationTargetValue", "0"))
        if metric > threshold:
            self._active_at = now
            if self.replicas == 0:
                self._set(now, max(1, self.spec["minReplicaCount"]))
        elif self.replicas and now - self._active_at > self.spec["cooldownPeriod"]:
            self._set(now, self.spec["minReplicaCount"])

    def _scale(self, now: int, metric: float) -> None:
        wanted = math.ceil(metric / self.target)
        if abs(metric / (self.target * self.replicas) - 1) <= TOLERANCE:
            wanted = self.replicas
        wanted = min(max(wanted, 1, self.spec["minReplicaCount"]), self.spec["maxReplicaCount"])
        self._wishes.append((now, wanted))
        up, down = self._rules("scaleUp"), self._rules("scaleDown")
        most = self._of_window(now, down["stabilizationWindowSeconds"], max)
        least = self._of_window(now, up["stabilizationWindowSeconds"], min)
        if least > self.replicas:
            self._set(now, min(least, self._paced(now, up, +1)))
        elif most < self.replicas:
            self._set(now, max(most, self._paced(now, down, -1)))

    def _rules(self, which: str) -> Doc:
        config = self.spec["advanced"]["horizontalPodAutoscalerConfig"]
        rules: Doc = config["behavior"][which]
        return rules

    def _of_window(self, now: int, window_s: int, choose: Any) -> int:
        return int(choose(wish for at, wish in self._wishes if now - at <= window_s))

    def _paced(self, now: int, rules: Doc, sign: int) -> int:
        """Give how far it may go now: `selectPolicy` is Max, so the widest policy counts."""
        bounds = []
        for policy in rules["policies"]:
            since = now - policy["periodSeconds"]
            moved = sum(by for at, by in self._changes if at > since and by * sign > 0)
            start = self.replicas - moved
            step = policy["value"]
            if policy["type"] == "Percent":
                step = math.ceil(start * policy["value"] / 100)
            bounds.append(start + sign * step)
        return int(max(bounds) if sign > 0 else min(bounds))

    def _set(self, now: int, replicas: int) -> None:
        if replicas != self.replicas:
            self._changes.append((now, replicas - self.replicas))
            self.replicas = replicas
