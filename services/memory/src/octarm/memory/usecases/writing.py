"""Write entries of episodes: to Redis, and through the stream to Postgres."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from octarm.common.failpoints import failpoint
from octarm.common.storage.batcher import Batcher
from octarm.common.telemetry import metrics
from octarm.memory.domain.entries import refusal
from octarm.memory.usecases.handing import HandOver
from octarm.memory.usecases.loading import LoadEpisode
from octarm.memory.usecases.ports import Front, FrontDown, Key, Landed, Stream
from octarm.memory.usecases.remembering import redacted
from octarm.models.episodes import Durability
from octarm.models.errors import Conflict, NotFound, OctarmError, Unavailable
from octarm.models.hot_episodes import EpisodeWrite, KeptWrite

BATCH: Final = 256
MAX_WAITING: Final = 20_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
# An id that was made longer ago may have been opened before: then Postgres is asked.
FRESH_S: Final = 60.0
MAX_OPEN: Final = 100_000


class Written(Struct, frozen=True, omit_defaults=True):
    """What became of a write."""

    created: bool = False
    durable: bool = False
    degraded: bool = False


class _Asked(Struct, frozen=True):
    """A write, and whether its episode has been looked up."""

    write: KeptWrite
    known: bool = False


class _Unknown(Struct, frozen=True):
    """Redis has not the episode: whether there is one must be looked up."""


Answer = Written | OctarmError
_UNKNOWN: Final = _Unknown()


class OpenEpisodes:
    """Episodes that are known to be open, the latest 100,000, so that Redis need not tell."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict()

    def add(self, key: Key) -> None:
        """Take note of one."""
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > MAX_OPEN:
            self._keys.popitem(last=False)

    def discard(self, key: Key) -> None:
        """Forget about one: it was closed or deleted."""
        self._keys.pop(key, None)

    def __contains__(self, key: Key) -> bool:
        return key in self._keys


class WriteEpisodes:
    """Batches writes of all tenants; each is in Redis before it is in the stream.

    So a reader that finds Redis whole misses nothing. Where Redis could not be told, it does not
    count any more (see `Front`), and the write is answered once the stream has it.
    """

    def __init__(
        self,
        front: Front,
        stream: Stream,
        handed: HandOver,
        load: LoadEpisode,
        *,
        now: Callable[[], datetime],
        redacts: bool = False,
    ) -> None:
        self._front = front
        self._stream = stream
        self._handed = handed
        self._load = load
        self._now = now
        self._redacts = redacts
        self.open = OpenEpisodes()
        self._batchers = {
            "fast": self._batcher(fast=True),
            "durable": self._batcher(fast=False),
        }

    def _batcher(self, *, fast: bool) -> "Batcher[_Asked, Written | _Unknown]":
        async def flush(asked: Sequence[_Asked]) -> Sequence[Written | _Unknown | Exception]:
            return await self._flush(asked, fast=fast)

        return Batcher(
            flush,
            max_items=BATCH,
            concurrency=4,
            max_waiting=MAX_WAITING,
            max_bytes=MAX_WAITING_BYTES,
            size_of=lambda asked: len(memoryview(asked.write.body)),
            owner_of=lambda asked: asked.write.tenant,
        )

    async def __call__(
        self, tenant: str, durability: Durability, writes: Sequence[EpisodeWrite]
    ) -> list[Answer]:
        """Write these; one answer each, in order. Sent again, they are written once."""
        batcher = self._batchers[durability]
        answers: list[Answer | _Unknown] = [refusal(write) or _UNKNOWN for write in writes]
        good = [place for place, answer in enumerate(answers) if answer is _UNKNOWN]
        stamped = {place: self._stamped(tenant, writes[place]) for place in good}
        at_once = [place for place in good if not self._may_be_there(stamped[place])]
        found = await batcher.put_many([_Asked(stamped[place]) for place in at_once])
        answers_at_once = dict(zip(at_once, found, strict=True))
        for place, write in stamped.items():
            answer = answers_at_once.get(place, _UNKNOWN)
            answers[place] = (
                await self._looked_up(write, batcher) if answer is _UNKNOWN else _said(answer)
            )
        metrics.inc("octarm_memory_writes_total", len(writes), durability=durability)
        return [one if not isinstance(one, _Unknown) else _gone() for one in answers]

    def _stamped(self, tenant: str, write: EpisodeWrite) -> KeptWrite:
        now = self._now()
        opening = write.opening
        if opening is not None and opening.created_at is None:
            opening = replace(opening, created_at=now)
        return KeptWrite(
            tenant,
            write.episode_id,
            write.entry_id,
            write.kind,
            seq=write.seq or int(now.timestamp() * 1e6),
            body=redacted(write.body) if self._redacts else write.body,
            opening=opening,
            ttl_seconds=write.ttl_seconds,
        )

    async def _looked_up(
        self, write: KeptWrite, batcher: "Batcher[_Asked, Written | _Unknown]"
    ) -> Answer:
        """Write to an episode that Redis has not (any more), if there is one."""
        try:
            found = await self._load(write.tenant, write.episode_id)
        except OctarmError as error:
            return error
        whole = found.whole
        if not found.complete:
            # It may have been opened, or closed, by what is still on its way.
            return Unavailable("the stream is behind: ask again", retry_after_s=1)
        if write.kind == "open":
            if whole is not None:
                return Written(durable=True, degraded=found.degraded)
        elif whole is None:
            return _gone()
        elif whole.closed and write.kind not in ("close", "extend"):
            return _closed()
        try:
            return _said(await batcher.put(_Asked(write, known=True)))
        except OctarmError as error:
            return error

    async def _flush(
        self, asked: Sequence[_Asked], *, fast: bool
    ) -> Sequence[Written | _Unknown | Exception]:
        writes = [one.write for one in asked]
        landed, degraded = await self._to_front(writes)
        failpoint("episode_in_front")
        answers: list[Written | _Unknown | Exception] = [
            self._judged(one, place, degraded=degraded)
            for one, place in zip(asked, landed, strict=True)
        ]
        going = [n for n, answer in enumerate(answers) if isinstance(answer, Written)]
        if fast and self._handed.has_room():
            # Entries without their opening would be nothing: that one is never at risk.
            at_once = {n for n in going if landed[n] >= 0 and writes[n].kind != "open"}
            if at_once:
                self._handed.put([writes[n] for n in at_once])
            going = [n for n in going if n not in at_once]
        if going:
            problem = await self._to_stream([writes[n] for n in going])
            failpoint("episode_in_stream")
            for n in going:
                answers[n] = problem or _durable(answers[n])
        return answers

    async def _to_front(self, writes: Sequence[KeptWrite]) -> tuple[list[Landed], bool]:
        try:
            return await self._front.write(writes), False
        except FrontDown:
            return [Landed.ABSENT] * len(writes), True

    def _may_be_there(self, write: KeptWrite) -> bool:
        """Tell whether an opening may be of an episode that there is, and Redis has lost.

        It must not be opened there anew: Redis would show it without its entries.
        """
        if write.kind != "open":
            return False
        age_s = self._now().timestamp() - _made_at(write.episode_id)
        return age_s > FRESH_S or (write.tenant, write.episode_id) in self.open

    def _judged(self, asked: _Asked, landed: Landed, *, degraded: bool) -> Answer | _Unknown:
        write = asked.write
        key = write.tenant, write.episode_id
        if landed is Landed.CLOSED:
            return _closed()
        if landed is Landed.FULL:
            return Conflict("the episode takes no more entries", code="EPISODE_FULL")
        if landed is Landed.GONE:
            return _gone()
        known = asked.known or write.kind == "open" or key in self.open
        if landed is Landed.ABSENT and not known:
            return _UNKNOWN
        if write.kind == "close":
            self.open.discard(key)
        elif write.kind != "extend":
            self.open.add(key)
        return Written(created=landed is not Landed.KNOWN, degraded=degraded)

    async def _to_stream(self, writes: Sequence[KeptWrite]) -> OctarmError | None:
        try:
            await self._stream.keep(writes)
        except OctarmError as error:
            # Redis must not go on showing what may never come to Postgres, and whether there is
            # an episode at all must be looked up.
            keys = list({(write.tenant, write.episode_id) for write in writes})
            for key in keys:
                self.open.discard(key)
            with suppress(FrontDown):
                await self._front.drop(keys)
            return error
        return None

    async def drain(self) -> None:
        """Wait until all that was taken has been answered and handed over."""
        for batcher in self._batchers.values():
            await batcher.drain()
        await self._handed.settled(10.0)


def _said(answer: Written | _Unknown | Exception) -> Answer:
    if isinstance(answer, Written | OctarmError):
        return answer
    return _gone() if isinstance(answer, _Unknown) else OctarmError("the write failed")


def _durable(answer: Written | _Unknown | Exception) -> Written:
    assert isinstance(answer, Written)
    return replace(answer, durable=True)


def _gone() -> NotFound:
    return NotFound(
        "no such episode", "Open it first; one that was forgotten stays away.", "EPISODE_NOT_FOUND"
    )


def _closed() -> Conflict:
    return Conflict(
        "the episode is closed", "Open another one for what comes now.", "EPISODE_CLOSED"
    )


def _made_at(episode_id: str) -> float:
    """Give the Unix time (seconds) that stands in an id."""
    number = 0
    for letter in episode_id[4:14]:
        number = number << 5 | _VALUE[letter]
    return number / 1000


_VALUE: Final = {letter: value for value, letter in enumerate("0123456789abcdefghjkmnpqrstvwxyz")}
