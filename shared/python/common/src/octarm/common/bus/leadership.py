"""One active instance at a time: a lease in a KV bucket whose entries expire.

The bucket's max age ends a lease that is not renewed (KV `update` keeps that age, unlike a
per-key TTL). A holder that cannot renew gives up, by its own monotonic clock, before the lease
can pass to another. Two leaders for a moment are still possible in theory, so what a leader
does must be fenced by other means (Msg-Id, attempt).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import uuid4

from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from octarm.common.bus.topology import LEADER_TTL_S
from octarm.common.cancelling import end
from octarm.common.clock import Clock, SystemClock, set_within
from octarm.common.telemetry.logs import get_logger
from octarm.models.subjects import LEADERS_BUCKET

GIVE_UP_SHARE: Final = 0.8

log = get_logger()
Lead = Callable[[asyncio.Event], Awaitable[None]]


class Leadership:
    """Competes for the lease `name` as `holder` (a subject token each)."""

    def __init__(
        self,
        nc: NATS,
        name: str,
        *,
        holder: str,
        ttl_s: float = LEADER_TTL_S,
        clock: Clock | None = None,
    ) -> None:
        self._nc = nc
        self._name = name
        # Unlike another process that was given the same name.
        self._holder = f"{holder}.{uuid4().hex}".encode()
        self._ttl_s = ttl_s
        self._clock = clock or SystemClock()
        self._opened: KeyValue | None = None
        self._revision = 0
        self._renewed_at = 0.0
        self._in_doubt = False
        self.is_leader = False

    def holds(self) -> bool:
        """Whether the lease is ours by our own monotonic clock, which goes on while we stand still.

        So a leader that was stopped for long knows it before it does anything else.
        """
        return self.is_leader and self._clock.monotonic() - self._renewed_at <= self._ttl_s

    async def run(self, stop: asyncio.Event, lead: Lead) -> None:
        """Call `lead(lost)` whenever the lease is ours, until `stop`; then release it at once.

        `lost` is set when the lease is gone or `stop` is set; `lead` must then return.
        """
        while not stop.is_set():
            if await self._acquire():
                log.info("leadership_won", lease=self._name)
                try:
                    await self._hold(stop, lead)
                finally:
                    self.is_leader = False
                    await self._release()
                log.info("leadership_ended", lease=self._name)
            else:
                await set_within(stop, self._ttl_s / 5)

    async def _bucket(self) -> KeyValue:
        # Opened once: who stands by asks every second, and opening is a request of its own.
        if self._opened is None:
            self._opened = await self._nc.jetstream(timeout=2.0).key_value(LEADERS_BUCKET)
        return self._opened

    async def _acquire(self) -> bool:
        started = self._clock.monotonic()
        try:
            bucket = await self._bucket()
            last = await self._renewed_unseen(bucket) if self._in_doubt else 0
            if last:
                self._revision = await bucket.update(self._name, self._holder, last=last)
            else:
                self._revision = await bucket.create(self._name, self._holder)
        except KeyWrongLastSequenceError:
            return False
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("lease_unreachable", lease=self._name, error=repr(error))
            return False
        self._renewed_at = started
        self.is_leader = True
        self._in_doubt = False
        return True

    async def _renewed_unseen(self, bucket: KeyValue) -> int:
        """Give the lease's revision if a renewal of ours arrived after we had given up, else 0."""
        try:
            entry = await bucket.get(self._name)
        except KeyNotFoundError:
            return 0
        return entry.revision or 0 if entry.value == self._holder else 0

    async def _hold(self, stop: asyncio.Event, lead: Lead) -> None:
        lost = asyncio.Event()
        leading = asyncio.ensure_future(lead(lost))
        keeping = asyncio.create_task(self._keep(stop))
        await asyncio.wait({leading, keeping}, return_when=asyncio.FIRST_COMPLETED)
        self.is_leader = False
        lost.set()
        await end(keeping)
        await leading

    async def _keep(self, stop: asyncio.Event) -> None:
        """Renew until `stop`, or until the lease may have passed to another."""
        while not stop.is_set():
            await set_within(stop, self._ttl_s / 4)
            started = self._clock.monotonic()
            try:
                async with asyncio.timeout(self._ttl_s / 4):
                    bucket = await self._bucket()
                    self._revision = await bucket.update(
                        self._name, self._holder, last=self._revision
                    )
                self._renewed_at = started
            except KeyWrongLastSequenceError:
                log.warning("leadership_lost", lease=self._name)
                self._revision = 0
                self._in_doubt = True
                return
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("lease_not_renewed", lease=self._name, error=repr(error))
                if self._clock.monotonic() - self._renewed_at > self._ttl_s * GIVE_UP_SHARE:
                    self._in_doubt = True
                    return

    async def _release(self) -> None:
        if not self._revision or not self._nc.is_connected:
            return
        try:
            bucket = await self._bucket()
            await bucket.delete(self._name, last=self._revision)
        except (NatsError, OSError, TimeoutError):
            log.debug("lease_left_to_expire", lease=self._name)
