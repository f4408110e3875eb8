"""Provider headroom: what a provider would refuse with 429 is not placed.

One governor for each provider, credential and model: all arms that call it share its buckets.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from octarm.policies.queue.buckets import Bucket

LABELS: Final = ("provider", "credential", "model")
MINUTE_S: Final = 60.0
# A governor that has closed stays so that long: its arms are ranked again at each opening, and
# what gathers in the meantime is placed at once.
REOPEN_S: Final = 0.05
_SMOOTHING: Final = 0.2


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What a provider grants; None is no limit. `key` is provider/credential/model."""

    key: str
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


def provider_key(labels: dict[str, str]) -> str:
    """Give the governor that an arm's labels name; empty when it calls no provider.

    A label that is missing stands for any: `openai//small` is one bucket for all credentials.
    """
    if "provider" not in labels:
        return ""
    return "/".join(labels.get(name, "") for name in LABELS)


def _bucket(per_minute: float | None, now: float) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute / MINUTE_S, per_minute, now=now)


class Governor:
    """The shared headroom of one provider key.

    It is open while a request and the tokens of a typical task are left (or all there can be),
    and the provider has not told to stay away.
    """

    __slots__ = ("_requests", "_tokens", "key", "open", "retry_at", "typical_tokens")

    def __init__(self, limits: ProviderLimits, *, now: float) -> None:
        self.key = limits.key
        self._requests = _bucket(limits.requests_per_minute, now)
        self._tokens = _bucket(limits.tokens_per_minute, now)
        self.typical_tokens = 0.0
        self.retry_at = 0.0
        self.open = True

    def take(self, tokens: int, now: float) -> int:
        """Count a request that is about to be made, with the tokens it is thought to need.

        Of one that says nothing (0) that is what was typical of late. Gives what was counted.
        """
        thought = tokens or round(self.typical_tokens)
        self._count(thought, 1, now)
        if tokens:
            self._learn(tokens)
        self.open = self.opens_at(now) <= now
        return thought

    def use(self, tokens: int, requests: int, now: float) -> None:
        """Count tokens and requests; a negative number of tokens puts back what was not used."""
        self._count(tokens, requests, now)
        self.open = self.open and self.opens_at(now) <= now

    def settle(self, thought: int, used: int, now: float) -> None:
        """Count what a task really used, in the place of what was counted for it before."""
        self.use(used - thought, 0, now)
        if used:
            self._learn(used)

    def stay_away(self, retry_after_s: float, now: float) -> None:
        """Honour a provider's `Retry-After`, for every arm that shares this key."""
        self.retry_at = max(self.retry_at, now + retry_after_s)
        self.open = False

    def opens_at(self, now: float) -> float:
        """Say when there is headroom again; `now` or earlier when there is some."""
        at = self.retry_at
        if self._requests is not None:
            at = max(at, self._requests.ready_at(1, now))
        if self._tokens is not None:
            at = max(at, self._tokens.ready_at(max(self.typical_tokens, 1), now))
        return at

    def _count(self, tokens: int, requests: int, now: float) -> None:
        if self._requests is not None:
            self._requests.take(requests, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)

    def _learn(self, tokens: int) -> None:
        known = self.typical_tokens
        self.typical_tokens = tokens if not known else known + _SMOOTHING * (tokens - known)


class Providers:
    """All governors. Those that are closed have a time at which to look at them again."""

    def __init__(self, limits: Iterable[ProviderLimits] = ()) -> None:
        self._limits = {it.key: it for it in limits}
        self._governors: dict[str, Governor] = {}
        self._closed: dict[Governor, float] = {}

    def governor(self, key: str, now: float) -> Governor | None:
        """Give the governor of a key; one without limits still honours `Retry-After`."""
        if not key:
            return None
        found = self._governors.get(key)
        if found is None:
            limits = self._limits.get(key) or ProviderLimits(key)
            found = self._governors[key] = Governor(limits, now=now)
        return found

    def watch(self, governor: Governor, now: float) -> None:
        """Look again when a governor that has closed may be open."""
        if not governor.open and governor not in self._closed:
            self._closed[governor] = max(governor.opens_at(now), now + REOPEN_S)

    def resume(self, now: float) -> list[Governor]:
        """Give those that have opened."""
        opened = []
        for governor in [it for it, at in self._closed.items() if at <= now]:
            del self._closed[governor]
            governor.open = governor.opens_at(now) <= now
            self.watch(governor, now)
            if governor.open:
                opened.append(governor)
        return opened

    def next_timer(self) -> float | None:
        """Say when `resume` next has something to do."""
        return min(self._closed.values(), default=None)
