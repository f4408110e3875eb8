"""A limit on what may come on one subject, kept before anything is parsed."""

from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from octarm.common.clock import Clock

MAX_TRACKED: Final = 20_000
# An instance beats every 5 s, and at once when its load changes.
BEATS_PER_S: Final = 20.0
BURST: Final = 40.0
PENDING: Final = 50_000


async def hear_beats(
    nc: NATS,
    pattern: str,
    heard: Callable[[Msg], Awaitable[None]],
    *,
    clock: Clock,
    queue: str = "",
    flooded: Callable[[], None] = lambda: None,
) -> Subscription:
    """Subscribe to beats of many senders, to at most `BEATS_PER_S` of each.

    The caller unsubscribes. On the bare client: what is too much must cost no parsing, and
    calls `flooded` instead.
    """
    guard = FloodGuard(rate=BEATS_PER_S, burst=BURST)

    async def received(msg: Msg) -> None:
        if guard.admits(msg.subject, clock.monotonic()):
            await heard(msg)
        else:
            flooded()

    return await nc.subscribe(pattern, queue=queue, cb=received, pending_msgs_limit=PENDING)


class FloodGuard:
    """Lets each subject pass `rate` times a second, with as many at once as `burst`.

    Above `MAX_TRACKED` subjects it starts afresh: its memory is bounded, and forgetting
    only means that a flood may pass `burst` more.
    """

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def admits(self, subject: str, now: float) -> bool:
        """Take one token of the subject's bucket; false when it is empty (`now`: monotonic s)."""
        tokens, at = self._buckets.get(subject, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        admitted = tokens >= 1
        if len(self._buckets) >= MAX_TRACKED and subject not in self._buckets:
            self._buckets.clear()
        self._buckets[subject] = (tokens - 1 if admitted else tokens, now)
        return admitted
