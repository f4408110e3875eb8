"""What attempts take of their providers, as it is heard of; times are Unix seconds."""

from typing import Final

from msgspec import Raw, Struct, json

from octarm.models.hot_types import NOT_UNDERSTOOD
from octarm.policies.queue.arm import Arm
from octarm.policies.queue.arms import Arms

Key = tuple[str, int]  # task id, attempt

# A provider that asks for longer is looked at again by then; its arms go on saying so.
LONGEST_S: Final = 3600.0
RATE_LIMITED: Final = "RATE_LIMITED"
# For how long to keep away from a provider that does not say how long.
UNSAID_S: Final = 1.0


class _Refusal(Struct):
    """The part of an error that tells of a provider's 429."""

    code: str = ""
    retry_after_seconds: float | None = None


_refusal = json.Decoder(_Refusal).decode


def refused_for_s(error: Raw) -> float | None:
    """Read from a result's error for how many seconds a provider wants nothing; None: it does."""
    try:
        said = _refusal(error)
    except NOT_UNDERSTOOD:
        return None
    return said.retry_after_seconds or UNSAID_S if said.code == RATE_LIMITED else None


class Usage(Struct, gc=False):
    """What was thought of an attempt when it was placed, and what it has said since."""

    thought: int = 0
    tokens: int = 0
    calls: int = 0


class Headroom:
    """Counts for the governors what the attempts in flight really use.

    Attempts on arms that name no provider are none of its business.
    """

    def __init__(self, arms: Arms) -> None:
        self._arms = arms
        self._used: dict[Key, Usage] = {}

    def __len__(self) -> int:
        return len(self._used)

    def placed(self, key: Key, tokens: int) -> None:
        """Note an attempt that was counted as one request with so many tokens."""
        self._used[key] = Usage(tokens)

    def placed_elsewhere(self, key: Key, arm: Arm, *, now: float) -> None:
        """Count an attempt that another leader has placed."""
        if (governor := arm.governor) is not None:
            self.placed(key, governor.take(0, now))
            self._arms.providers.watch(governor, now)

    def spent(self, key: Key, arm: Arm, *, tokens: int, calls: int, now: float) -> None:
        """Count some of the calls of an attempt."""
        known = self._used.get(key)
        if known is None:
            return
        before, asked = known.tokens, known.calls
        known.tokens += tokens
        known.calls += calls
        more = max(known.tokens, known.thought) - max(before, known.thought)
        requests = max(known.calls, 1) - max(asked, 1)
        self._use(arm, more, requests, now)

    def ended(self, key: Key, arm: Arm, *, tokens: int, calls: int, now: float) -> None:
        """Count all that an attempt has used, in the place of what was counted till now."""
        known = self._used.pop(key, None)
        if known is None:
            return
        requests = max(calls, known.calls, 1) - max(known.calls, 1)
        self._use(arm, 0, requests, now)
        counted = max(known.tokens, known.thought)
        self._arms.settle(arm, thought=counted, used=max(tokens, known.tokens), now=now)

    def _use(self, arm: Arm, tokens: int, requests: int, now: float) -> None:
        if (governor := arm.governor) is not None:
            governor.use(tokens, requests, now)
            self._arms.providers.watch(governor, now)

    def forget(self, key: Key) -> None:
        """Expect nothing more of an attempt; what was counted stays counted."""
        self._used.pop(key, None)

    def stay_away(self, arm: Arm, retry_after_s: float, *, now: float) -> bool:
        """Place nothing that its provider would refuse; false when the arm names none."""
        if arm.governor is None:
            return False
        self._arms.stay_away(arm, min(retry_after_s, LONGEST_S), now=now)
        return True
