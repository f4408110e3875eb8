"""Episodes written and read all through a storm, and a checker of what was promised about them."""

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import Final

import nats
import psycopg
from psycopg import sql
from redis.asyncio import Redis

from octarm.cli.stack.upfile import Urls
from octarm.clients.episode_answers import Written
from octarm.clients.episodes import Writers
from octarm.clients.memory import MemoryClient
from octarm.clients.write_behind import MAX_ENTRIES
from octarm.models.episodes import Durability, EpisodeFound
from octarm.models.errors import OctarmError
from octarm.models.ids import new_id
from octarm.sdk.recall import Recall

WRITERS: Final = 8
ENTRIES: Final = 60
LOOK_EACH: Final = 10
PAUSE_S: Final = 0.01
TENANT: Final = "default"
# What `fast` risks, as docs/architecture/episodes.md says, and what clocks and lost answers add.
RISK_S: Final = 1.0
SLACK_S: Final = 0.5
LAST_LOOK_S: Final = 120.0


@dataclass(slots=True)
class Ack:
    """When an entry was acknowledged, and when memory had said at the latest that it has it."""

    at: float
    durable: bool
    kept_by: float = math.inf


@dataclass(slots=True)
class Page:
    """One episode, as its writer knows it; `open` are the fast entries that may still wait."""

    episode_id: str
    acked: dict[int, Ack] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    open: set[int] = field(default_factory=set)

    def ack(self, number: int, written: Written) -> None:
        """Note an answer; one that is no promise to wait says that all before it is kept."""
        self.acked[number] = Ack(time.monotonic(), written.durable)
        self.open.add(number)
        if not written.waiting:
            self.flushed()

    def flushed(self) -> None:
        """Note that memory has had everything."""
        for number in self.open:
            self.acked[number].kept_by = time.monotonic()
        self.open.clear()

    def refused(self) -> None:
        """Note that the writer was told: of what may still wait nothing is promised any more."""
        for number in self.open:
            del self.acked[number]
        self.open.clear()


@dataclass(slots=True)
class Diary:
    """Eight writers; `deaths` says when the memory process died (monotonic)."""

    urls: Urls
    deaths: list[float] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    breaks: list[str] = field(default_factory=list)
    unanswered: int = 0
    reads: dict[str, int] = field(default_factory=dict)
    lost_fast: int = 0
    arms_died: int = 0
    lost_with_arms: int = 0
    erased: list[str] = field(default_factory=list)
    """Tags whose erasure was said to be done."""

    def arm_died(self, episode_id: str, acked: dict[int, bool], found: EpisodeFound) -> None:
        """Judge what a killed arm left: entry → whether it may have stood in its window."""
        self.arms_died += 1
        seen = set(map(str, found.episode.observations))
        lost = [number for number in acked if str(number) not in seen]
        self.lost_with_arms += len(lost)
        kept = max((number for number, waiting in acked.items() if not waiting), default=-1)
        if early := [number for number in lost if number <= kept]:
            self.breaks.append(f"{episode_id}: {early} are lost though {kept} was durable")
        if len(lost) > MAX_ENTRIES:
            self.breaks.append(f"{episode_id}: {len(lost)} are lost with the arm")

    async def write(self, stop: asyncio.Event) -> None:
        """Write and read until `stop` is set."""
        nc = await nats.connect(self.urls.nats, max_reconnect_attempts=-1, reconnect_time_wait=0.2)
        try:
            writers, client = Writers(nc), MemoryClient(nc, timeout_s=5)
            async with asyncio.TaskGroup() as group:
                for number in range(WRITERS):
                    memory = Recall(
                        client, TENANT, f"diary-{number}", writers.of(TENANT), new_id("tsk")
                    )
                    group.create_task(self._one_after_the_other(memory, stop))
        finally:
            await nc.close()

    async def _one_after_the_other(self, memory: Recall, stop: asyncio.Event) -> None:
        chance = random.Random(memory.arm_id)
        while not stop.is_set():
            try:
                episode = await memory.open(tags=["diary"])
            except OctarmError:
                self.unanswered += 1
                continue
            page = Page(episode.episode_id)
            self.pages.append(page)
            for number in range(ENTRIES):
                if stop.is_set():
                    break
                durability: Durability = chance.choice(["fast", "durable"])
                page.asked.add(number)
                try:
                    page.ack(number, await episode.observe(number, durability=durability))
                except OctarmError:
                    page.refused()
                    self.unanswered += 1
                if number % LOOK_EACH == LOOK_EACH - 1:
                    await self._look(memory, page)
                await asyncio.sleep(PAUSE_S)
            await self._flush(memory, page)

    async def _flush(self, memory: Recall, page: Page) -> None:
        try:
            await memory.behind.flushed(page.episode_id)
            page.flushed()
        except OctarmError:
            page.refused()
            self.unanswered += 1

    async def _look(self, memory: Recall, page: Page) -> None:
        await self._flush(memory, page)
        known, began = dict(page.acked), time.monotonic()
        try:
            found = await memory.episode(page.episode_id)
        except OctarmError as error:
            if error.status == 404:
                self.breaks.append(f"{page.episode_id} is said not to be there: {error.message}")
            self.unanswered += 1
            return
        self._judge(page, found, known, began)

    def _judge(self, page: Page, found: EpisodeFound, known: dict[int, Ack], began: float) -> None:
        self.reads[found.source] = self.reads.get(found.source, 0) + 1
        seen = found.episode.observations
        if seen != sorted(set(map(int, map(str, seen)))):
            self.breaks.append(f"{page.episode_id}: twice, or not in order: {seen}")
        strange = set(map(str, seen)) - set(map(str, page.asked))
        if strange:
            self.breaks.append(f"{page.episode_id}: nobody wrote {sorted(strange)}")
        if not found.complete:
            return
        for number, ack in known.items():
            if number in seen:
                continue
            if ack.durable or not self._may_be_lost(ack, began):
                kind = "durable" if ack.durable else "fast"
                self.breaks.append(
                    f"{page.episode_id}: {kind} entry {number} is missing (from {found.source})"
                )
            else:
                self.lost_fast += 1

    def _may_be_lost(self, ack: Ack, until: float) -> bool:
        """Whether the memory process died within the time that a fast write is at risk there."""
        return any(
            ack.at - SLACK_S <= death <= min(until, ack.kept_by + RISK_S) + SLACK_S
            for death in self.deaths
        )

    async def check(self) -> None:
        """Read every episode from Postgres, Redis having been emptied, and judge it."""
        self.lost_fast = 0
        async with Redis.from_url(self.urls.redis) as redis:
            await redis.flushall()
        await asyncio.to_thread(self._no_trace)
        nc = await nats.connect(self.urls.nats)
        try:
            memory = MemoryClient(nc, timeout_s=10)
            until = time.monotonic() + LAST_LOOK_S
            for page in self.pages:
                found = await self._read_until(memory, page, until)
                if found is not None:
                    self._judge(page, found, page.acked, time.monotonic())
        finally:
            await nc.close()

    def _no_trace(self) -> None:
        """Look for who was erased in every row of memory."""
        if not self.erased:
            return
        with psycopg.connect(self.urls.postgres) as connection:
            tables = connection.execute(
                "select tablename from pg_tables where schemaname = 'memory'"
            ).fetchall()
            for (table,) in tables:
                query = sql.SQL(
                    "select count(*) from {} t, unnest(%s::text[]) tag"
                    " where strpos(t::text, tag || '\"') > 0 or strpos(t::text, tag || ' ') > 0"
                )
                row = connection.execute(
                    query.format(sql.Identifier("memory", table)), [self.erased]
                ).fetchone()
                if row and row[0]:
                    self.breaks.append(f"{row[0]} rows of memory.{table} name who was erased")

    async def _read_until(
        self, memory: MemoryClient, page: Page, until: float
    ) -> EpisodeFound | None:
        while True:
            try:
                found = await memory.get_episode(TENANT, page.episode_id)
                if found.complete or time.monotonic() > until:
                    return found
            except OctarmError as error:
                if not error.retryable or time.monotonic() > until:
                    self.breaks.append(f"{page.episode_id} cannot be read: {error.message}")
                    return None
            await asyncio.sleep(0.2)

    def __str__(self) -> str:
        entries = [entry for page in self.pages for entry in page.acked.values()]
        durable = sum(ack.durable for ack in entries)
        reads = ", ".join(f"{number} from {source}" for source, number in self.reads.items())
        return (
            f"{len(self.pages)} episodes, {durable} entries acknowledged durable and "
            f"{len(entries) - durable} fast ({self.lost_fast} of these lost), "
            f"{self.unanswered} without an answer; reads: {reads}; "
            f"{self.arms_died} arms killed with {self.lost_with_arms} entries in their windows; "
            f"{len(self.erased)} people erased"
        )
