"""Which policy is asked, and when it is asked no more: pure, times are passed in."""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

PLATFORM: Final = "platform"
MAX_FAILURES: Final = 3
WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Switched:
    """Another version decides from now on; `because` says what brought it about."""

    before: str
    now: str
    because: str


class Supervisor:
    """Remembers what was deployed and how it has done.

    A version that fails `MAX_FAILURES` times within `WITHIN_S` seconds is tripped: the last good
    version decides again, the platform's own policy when there is none. Good is a version that has
    decided and was not tripped since it was deployed last.
    """

    def __init__(self) -> None:
        self.active = PLATFORM
        self.failures = Counter[tuple[str, str]]()
        self._history: list[str] = []
        self._good: set[str] = set()
        self._recent: deque[float] = deque()

    def deploy(self, version: str) -> Switched:
        """Let this version decide; one that was tripped gets a new chance."""
        self._good.discard(version)
        return self._switch(version, "deployed")

    def roll_back(self) -> Switched:
        """Go back to the version before the active one, good or not."""
        if self._history:
            self._history.pop()
        return self._switch(self._history.pop() if self._history else PLATFORM, "rolled back")

    def decided(self, version: str) -> None:
        """Take that a version has answered."""
        self._good.add(version)

    def failed(self, version: str, reason: str, *, now: float) -> Switched | None:
        """Count a failure; say so when it was one too many.

        `now` is in monotonic seconds. A failure of a version that is no longer active is counted
        but trips nothing, and the platform's own policy is never tripped.
        """
        self.failures[version, reason] += 1
        if version != self.active or version == PLATFORM:
            return None
        self._recent.append(now)
        while self._recent[0] <= now - WITHIN_S:
            self._recent.popleft()
        if len(self._recent) < MAX_FAILURES:
            return None
        self._good.discard(version)
        self._history = [it for it in self._history if it != version]
        while self._history and self._history[-1] not in self._good:
            self._history.pop()
        before = self._history.pop() if self._history else PLATFORM
        text = f"{MAX_FAILURES} failures within {WITHIN_S:.0f} s, the last: {reason}"
        return self._switch(before, text)

    def _switch(self, version: str, because: str) -> Switched:
        switched = Switched(self.active, version, because)
        self.active = version
        self._recent.clear()
        if version != PLATFORM and self._history[-1:] != [version]:
            self._history.append(version)
        return switched
