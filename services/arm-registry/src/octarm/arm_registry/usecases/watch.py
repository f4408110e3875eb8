"""Watch the arms: hear their beats, judge them, and keep the directory true.

Every replica hears, only the leader judges and writes.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from octarm.arm_registry.domain.beats import Beat
from octarm.arm_registry.domain.fleet import Change, Fleet
from octarm.arm_registry.usecases.announcing import status_event
from octarm.arm_registry.usecases.ports import Announcer, ChangedMeanwhile, Consumers, Directory
from octarm.common import telemetry
from octarm.common.clock import Clock
from octarm.common.telemetry import metrics
from octarm.models.errors import OctarmError

LOOK_EVERY_S: Final = 0.5
GATHER_S: Final = 0.02
RELIST_EVERY_S: Final = 10.0
PAUSED_AFTER_S: Final = 2.5
RETELL_WITHIN: Final = timedelta(minutes=5)
STALLED_AFTER_S: Final = 30.0
REREAD_EVERY_S: Final = 0.1
MAX_REREAD: Final = 100

log = telemetry.get_logger()


class WatchArms:
    """The watch of one replica.

    `hearing` gives a number that changes whenever beats may have been missed (a reconnect),
    None while none can arrive: silence proves nothing then, and verdicts are held for 3
    intervals, as they are after a start. `consumers` restores what arms get their work by,
    should the stream have been made anew.
    """

    def __init__(
        self,
        directory: Directory,
        announcer: Announcer,
        clock: Clock,
        hearing: Callable[[], int | None] = lambda: 0,
        *,
        consumers: Consumers | None = None,
    ) -> None:
        self._directory = directory
        self._announcer = announcer
        self._clock = clock
        self._hearing = hearing
        self._consumers = consumers
        self._fleet = Fleet()
        self._leading = False
        self._beaten: set[str] = set()
        self._early: dict[tuple[str, str], Beat] = {}
        self._to_reread: set[str] = set()
        self._reread_at = 0.0
        self._wake = asyncio.Event()
        self._heard_by: int | None = None
        self._looked_at = 0.0
        self._relist_at = 0.0

    def hear(self, beat: Beat) -> None:
        """Take in a beat; cheap, and without effect while another replica leads."""
        if not self._leading:
            return
        now = self._clock.monotonic()
        heard = self._fleet.hear(beat, now=now, wall=self._clock.now())
        if heard == "news":
            self._beaten.add(beat.arm_id)
            self._wake.set()
        elif beat.arm_id not in self._fleet and len(self._early) < MAX_REREAD:
            self._early[beat.arm_id, beat.instance_id] = beat
            self.reread(beat.arm_id)

    def reread(self, arm_id: str) -> None:
        """Note that another writer has changed this arm's entry, or may have made it."""
        if self._leading and len(self._to_reread) < MAX_REREAD:
            self._to_reread.add(arm_id)
            self._wake.set()

    def healthy(self) -> bool:
        """Tell whether this replica judges in time, if it is the one to judge."""
        return not self._leading or self._clock.monotonic() - self._looked_at < STALLED_AFTER_S

    async def lead(self, lost: asyncio.Event) -> None:
        """Judge until `lost` is set; a directory that does not answer is asked again."""
        self._fleet = Fleet()
        self._relist_at = 0.0
        self._looked_at = self._clock.monotonic()
        self._heard_by = self._hearing()
        self._leading = True
        taken_over = False
        ending = asyncio.create_task(lost.wait())
        ending.add_done_callback(lambda _: self._wake.set())
        try:
            while not lost.is_set():
                try:
                    if not taken_over:
                        await self._take_over()
                        taken_over = True
                    await self.look()
                except OctarmError as error:
                    log.warning("directory_unreachable", error=error.message)
                    await _wait(lost, 1.0)
                await self._until_next(lost)
        finally:
            ending.cancel()
            self._leading = False

    async def look(self) -> None:
        """Judge once: the arms that have beaten, and all when it is time.

        Raises:
            Unavailable: the directory does not answer; look again later.
        """
        now = self._clock.monotonic()
        self._doubt(now)
        if now >= self._relist_at:
            await self._relist()
        if now - self._reread_at >= REREAD_EVERY_S:
            self._reread_at = now
            await self._reread()
        due = now - self._looked_at >= LOOK_EVERY_S
        arm_ids = list(self._fleet) if due else sorted(self._beaten)
        self._beaten.clear()
        if due:
            self._looked_at = now
            self._count()
        for change in list(self._fleet.changes(arm_ids, now=now, wall=self._clock.now())):
            await self._write(change)

    def _doubt(self, now: float) -> None:
        """Mistrust the silence when we could not hear, or when we ourselves stood still."""
        heard_by = self._hearing()
        if heard_by is None or heard_by != self._heard_by:
            self._fleet.deaf(now=now)
        elif now - self._looked_at > PAUSED_AFTER_S:
            log.warning("watch_stood_still", seconds=round(now - self._looked_at, 1))
            self._fleet.deaf(now=now)
            self._looked_at = now - LOOK_EVERY_S
        self._heard_by = heard_by

    async def _take_over(self) -> None:
        """Learn the directory and tell again what a predecessor may not have told."""
        await self._relist()
        since = self._clock.now() - RETELL_WITHIN
        for arm_id in self._fleet:
            record = self._fleet.stored(arm_id).record
            if record.changed_at > max(since, record.registered_at):
                self._announcer.announce(status_event(record))

    async def _relist(self) -> None:
        self._fleet.adopt(await self._directory.all(), now=self._clock.monotonic())
        self._relist_at = self._clock.monotonic() + RELIST_EVERY_S
        if self._consumers is None:
            return
        try:
            for arm_id in await self._consumers.restore(list(self._fleet)):
                log.warning("arm_consumer_was_gone", arm_id=arm_id)
        except OctarmError as error:
            log.warning("arm_consumers_not_seen", error=error.message)

    async def _reread(self) -> None:
        arm_ids, self._to_reread = self._to_reread, set()
        early, self._early = self._early, {}
        for arm_id in sorted(arm_ids):
            await self._read(arm_id)
        for beat in early.values():
            self.hear(beat)

    async def _read(self, arm_id: str) -> None:
        stored = await self._directory.get(arm_id)
        if stored is None:
            self._fleet.forget(arm_id)
        else:
            self._fleet.know(stored, now=self._clock.monotonic())
            self._beaten.add(arm_id)

    async def _write(self, change: Change) -> None:
        arm_id = change.record.arm.arm_id
        try:
            written = await self._directory.replace(change.stored, change.record)
        except ChangedMeanwhile:
            await self._read(arm_id)
            return
        self._fleet.wrote(written, now=self._clock.monotonic())
        if change.flipped:
            record = written.record
            log.info("arm_status", arm_id=arm_id, status=record.status, reason=record.reason)
            self._announcer.announce(status_event(record))

    def _count(self) -> None:
        counts = dict.fromkeys(("online", "degraded", "draining", "offline"), 0)
        for arm_id in self._fleet:
            counts[self._fleet.stored(arm_id).record.status] += 1
        for status, count in counts.items():
            metrics.put("octarm_registry_arms", count, status=status)

    async def _until_next(self, lost: asyncio.Event) -> None:
        """Wait for news or for the next look; news of the same moment is judged together."""
        if not (self._beaten or self._to_reread):
            self._wake.clear()
        await _wait(self._wake, LOOK_EVERY_S)
        if not lost.is_set():
            await _wait(lost, GATHER_S)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
