"""The book of policies on the bus: read, changed by compare-and-set, followed."""

import asyncio
import random
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

from nats.aio.client import Client as NATS

from octarm.common.bus.publisher import Publishes
from octarm.common.clock import Clock, SystemClock
from octarm.common.telemetry import get_logger
from octarm.models.errors import NotFound, OctarmError, Unavailable
from octarm.models.events import PolicyEvent
from octarm.models.ids import new_id
from octarm.models.policies import PolicyInfo, PolicyVersion, SavePolicy
from octarm.policies import book as books
from octarm.policies import versions
from octarm.policies.book import Act, Book
from octarm.policies.store.bucket import Bucket, ChangedMeanwhile, OutcomeUnknown
from octarm.policies.store.following import Following, OnChange
from octarm.policies.store.state import Kept, State, book_of, state_of
from octarm.policies.store.telling import Teller

TRIES: Final = 30
PAUSE_S: Final = 0.02
AT_ONCE: Final = 16
AGAIN_AFTER_S: Final = 1.0
TOLD_BY_OTHERS: Final = timedelta(seconds=2)
MAX_UNTOLD: Final = 50

Change = Callable[[Book], tuple[Book, PolicyEvent | None]]

log = get_logger()


class PolicyStore:
    """The versions of policies and what was deployed, shared by all schedulers.

    Everything raises `Unavailable` while the bus does not answer. A change is made once, however
    often the writing of it is repeated, and its event is kept with it until it was published: by
    whoever changed it or, if that process died, by the next one that reads it.
    """

    def __init__(self, nc: NATS, publisher: Publishes, *, clock: Clock | None = None) -> None:
        self._bucket = Bucket(nc)
        self._clock = clock or SystemClock()
        self._teller = Teller(nc, publisher, self._clock)
        self._infos: dict[str, PolicyInfo] = {}

    async def book(self) -> Book:
        """Give what is kept now."""
        _, book = await self._read()
        return book

    async def source(self, digest: str) -> PolicyVersion:
        """Give a version with its source, and its state as of now.

        Raises:
            NotFound: there is none of this digest.
        """
        kept, book = await self._read()
        info = book.find(digest)
        version = await self._bucket.version(kept.state.versions[info.digest])
        if version is None:
            raise NotFound(f"there is no policy {digest}", code=books.UNKNOWN)
        return version.model_copy(update={"state": book.stated(info).state})

    async def save(self, wanted: SavePolicy, act: Act) -> tuple[PolicyInfo, bool]:
        """Keep a version; tells whether it is new. Raises as `book.save`."""
        digest = versions.digest(wanted.source, wanted.kind)
        created = False

        def change(book: Book) -> tuple[Book, PolicyEvent | None]:
            nonlocal created
            changed, _, event = books.save(book, wanted, act)
            created = event is not None
            return changed, event

        book = await self._change(act, change, source=wanted.source)
        return book.stated(book.versions[digest]), created

    async def deploy(self, ref: str, act: Act) -> Book:
        """Let a version decide. Raises as `book.deploy`."""
        return await self._change(act, lambda book: books.deploy(book, ref, act))

    async def shadow(self, ref: str | None, act: Act) -> Book:
        """Let a version be asked beside the one that decides. Raises as `book.shadow`."""
        return await self._change(act, lambda book: books.shadow(book, ref, act))

    async def roll_back(self, act: Act) -> Book:
        """Let the version before decide again. Raises as `book.roll_back`."""
        return await self._change(act, lambda book: books.roll_back(book, act))

    async def delete(self, ref: str, act: Act) -> str | None:
        """Forget a version; gives its digest, None when there was none. Raises as `book.delete`."""
        gone: str | None = None

        def change(book: Book) -> tuple[Book, PolicyEvent | None]:
            nonlocal gone
            changed, event = books.delete(book, ref, act)
            gone = event.policy if event else gone
            return changed, event

        await self._change(act, change)
        return gone

    async def trip(self, digest: str, to: str, because: str) -> Book:
        """Take back a version that fails, if it is still the one that decides.

        Many may do so at once: it happens, and is announced, once.
        """
        act = Act(new_id("evt"), self._clock.now(), "scheduler")

        def change(book: Book) -> tuple[Book, PolicyEvent | None]:
            return books.trip(book, to, because, act) if book.live == digest else (book, None)

        return await self._change(act, change)

    async def watch(self, on_change: OnChange) -> None:
        """Call `on_change` with the book at once, and again whenever it is another; endless.

        A call that ends in an `OctarmError` is repeated a second later. A watcher may go blind,
        as after a restart of NATS: what it missed is seen within ten seconds.
        """
        following = Following(self._bucket, self._look, on_change)
        while True:
            try:
                await following.run()
            except OctarmError as error:
                log.warning("policies_not_followed", error=error.message)
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _look(self) -> Book:
        kept, book = await self._read()
        untold = kept.state.untold
        if untold and self._clock.now() - untold[0].occurred_at > TOLD_BY_OTHERS:
            await self._tell(kept)
        return book

    async def _read(self) -> tuple[Kept, Book]:
        kept = await self._bucket.state()
        while missing := await self._learn(kept.state):
            again = await self._bucket.state()
            if again.revision == kept.revision:
                log.error("policy_version_is_missing", digests=missing)
                break
            kept = again
        return kept, book_of(kept.state, self._infos)

    async def _learn(self, state: State) -> list[str]:
        """Read what is not known of the versions; gives the digests of those that are not there."""
        keys = set(state.versions.values())
        self._infos = {key: info for key, info in self._infos.items() if key in keys}
        permits = asyncio.Semaphore(AT_ONCE)

        async def learn(key: str) -> None:
            async with permits:
                version = await self._bucket.version(key)
            if version is not None:
                self._infos[key] = PolicyInfo(**version.model_dump(exclude={"source"}))

        await asyncio.gather(*(learn(key) for key in keys - self._infos.keys()))
        return [digest for digest, key in state.versions.items() if key not in self._infos]

    async def _change(self, act: Act, change: Change, *, source: str | None = None) -> Book:
        for number in range(TRIES):
            kept, book = await self._read()
            if act.event_id in kept.state.done:
                return book
            changed, event = change(book)
            if event is None:
                await self._clear(() if number == 0 or source is None else (act.event_id,))
                return changed
            try:
                after = await self._write(kept, changed, event, source)
            except (ChangedMeanwhile, OutcomeUnknown):
                # Reading again tells what became of it.
                await asyncio.sleep(random.uniform(0, PAUSE_S * (number + 1)))  # noqa: S311
                continue
            await self._clear(
                set(kept.state.versions.values()) - set(after.state.versions.values())
            )
            await self._tell(after)
            return changed
        raise Unavailable("many change policies at once", retry_after_s=1)

    async def _write(
        self, before: Kept, changed: Book, event: PolicyEvent, source: str | None
    ) -> Kept:
        if len(before.state.untold) >= MAX_UNTOLD:
            raise Unavailable("what was done to policies cannot be announced", retry_after_s=5)
        if source is not None:
            info = changed.versions[event.policy]
            version = PolicyVersion(**info.model_dump(), source=source)
            await self._bucket.add(event.event_id, version)
        return await self._bucket.put(before, state_of(before.state, changed, event))

    async def _clear(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                await self._bucket.remove(key)
            except OctarmError as error:
                log.warning("policy_version_not_removed", key=key, error=error.message)

    async def _tell(self, kept: Kept) -> None:
        """Publish what is untold and take note of it; what fails is left to the next one."""
        told = {event.event_id for event in kept.state.untold}
        try:
            await self._teller.tell(kept.state.untold)
            for _ in range(TRIES):
                untold = [it for it in kept.state.untold if it.event_id not in told]
                try:
                    await self._bucket.put(kept, kept.state.model_copy(update={"untold": untold}))
                except ChangedMeanwhile:
                    kept = await self._bucket.state()
                    if told.isdisjoint(it.event_id for it in kept.state.untold):
                        return
                else:
                    return
        except OctarmError as error:
            log.warning("policy_event_not_told", error=error.message)
