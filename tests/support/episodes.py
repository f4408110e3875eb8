"""Builders for terminal events, episodes and writes, and fakes of where episodes are kept."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from octarm.common.testing.fakes import NOON
from octarm.memory.domain.entries import Entry, encode, fold, opened
from octarm.memory.domain.episode import Episode, episode_of, read_ending
from octarm.memory.domain.paging import Question
from octarm.memory.usecases.handing import HandOver
from octarm.memory.usecases.loading import LoadEpisode
from octarm.memory.usecases.ports import Cached, Front, FrontDown, Kept, Key, Landed
from octarm.models.episodes import WriteKind
from octarm.models.errors import OctarmError, Unavailable
from octarm.models.hot_episodes import EpisodeOpening, KeptWrite
from octarm.models.ids import typeid, uuid7, with_prefix


def a_task_id(number: int = 1) -> str:
    return typeid("tsk", uuid7(1_800_000_000_000 + number, number))


def an_episode_id(number: int = 1) -> str:
    return with_prefix("epi", a_task_id(number))


def a_result(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "task_id": a_task_id(number),
        "attempt": 1,
        "arm_id": "writer",
        "instance_id": "i-1",
        "status": "success",
        "output": {"text": "done"},
        "execution_time_ms": 12,
        "tokens_used": 34,
        "provenance": {
            "arm_id": "writer",
            "timestamp": "2026-11-21T12:00:00Z",
            "command_hash": "0" * 64,
        },
    } | fields


def an_ending(number: int = 1, verb: str = "completed", **fields: Any) -> bytes:
    event = {
        "type": f"task.{verb}",
        "event_id": typeid("evt", number),
        "occurred_at": "2026-11-21T12:00:00+00:00",
        "task_id": a_task_id(number),
        "tenant": "acme",
        "seq": 5,
        "attempt": 1,
        "arm_id": "writer",
        "goal": "write",
    } | fields
    if verb == "completed" and "result" not in fields:
        event["result"] = a_result(number)
    return json.dumps(event).encode()


def an_episode(number: int = 1, **fields: Any) -> Episode:
    return episode_of(read_ending(an_ending(number, **fields)))


def an_opening(number: int = 1, *, tenant: str = "acme", **fields: Any) -> KeptWrite:
    opening = EpisodeOpening(task_id=a_task_id(900), arm_id="writer", created_at=NOON)
    opening = replace(opening, **fields)
    return KeptWrite(tenant, an_episode_id(number), "open", "open", seq=1, opening=opening)


def an_entry(
    name: str = "1",
    body: Any = "seen",
    *,
    number: int = 1,
    kind: WriteKind = "observation",
    **fields: Any,
) -> KeptWrite:
    """Make a write to the episode of that number."""
    raw = Raw(json.dumps(body).encode())
    write = KeptWrite("acme", an_episode_id(number), name, kind, seq=10, body=raw)
    return replace(write, **fields)


def a_closing(number: int = 1) -> KeptWrite:
    return an_entry("close", None, number=number, kind="close", seq=99)


class FakeEpisodes:
    """Keeps episodes and their entries as the tables do."""

    def __init__(self) -> None:
        self.rows: dict[Key, Episode] = {}
        self.entries: dict[Key, dict[str, Entry]] = {}
        self.gone: set[Key] = set()
        self.down = False
        self.looks = 0

    async def add(self, episodes: Sequence[Episode]) -> Mapping[str, str]:
        self._check()
        refused = {}
        for episode in episodes:
            if not _is_json(episode.body):
                refused[episode.episode_id] = "invalid input syntax for type json"
            elif (key := (episode.tenant, episode.episode_id)) not in self.gone:
                self.rows.setdefault(key, episode)
        return refused

    async def keep(self, writes: Sequence[KeptWrite]) -> Mapping[int, str]:
        self._check()
        refused = {}
        for place, one in enumerate(writes):
            key = one.tenant, one.episode_id
            if key in self.gone:
                continue
            if one.opening is not None:
                at = (one.opening.created_at or NOON).isoformat()
                self.rows.setdefault(key, opened(*key, one.opening, created_at=at))
            elif not _is_json(bytes(one.body).decode()):
                refused[place] = "invalid input syntax for type json"
            else:
                entry = Entry(one.seq, one.kind, one.body, one.ttl_seconds)
                self.entries.setdefault(key, {}).setdefault(one.entry_id, entry)
        return refused

    async def bury(self, tenant: str, episode_id: str) -> None:
        self._check()
        self.gone.add((tenant, episode_id))

    async def delete(self, tenant: str, episode_id: str) -> bool:
        self._check()
        entries = self.entries.pop((tenant, episode_id), None)
        return self.rows.pop((tenant, episode_id), None) is not None or entries is not None

    async def get(self, tenant: str, episode_id: str) -> Kept | None:
        self._check()
        self.looks += 1
        found = self._seen(tenant, episode_id)
        if found is None:
            return None
        return Kept(found, dict(self.entries.get((tenant, episode_id), {})))

    async def find(self, question: Question, *, after: str | None, limit: int) -> list[Kept]:
        self._check()
        wanted = [
            one
            for one in self.rows.values()
            if self._seen(question.tenant, one.episode_id) is one
            and (after is None or one.episode_id < after)
            and _fits(one, question)
        ]
        wanted.sort(key=lambda one: one.episode_id, reverse=True)
        return [
            Kept(one, self.entries.get((one.tenant, one.episode_id), {})) for one in wanted[:limit]
        ]

    def _seen(self, tenant: str, episode_id: str) -> Episode | None:
        key = tenant, episode_id
        return None if key in self.gone else self.rows.get(key)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("Postgres: down")


def _fits(one: Episode, question: Question) -> bool:
    whole = fold(one.body.encode(), {})
    since, until = question.since, question.until
    return (
        question.arm_id in (None, one.arm_id)
        and question.task_id in (None, whole.task_id)
        and (question.tag is None or question.tag in one.tags)
        and (since is None or one.created_at >= since.isoformat())
        and (until is None or one.created_at < until.isoformat())
    )


async def put_in(front: Front, *episodes: Episode) -> None:
    """Put whole episodes in front, as somebody does who has read them."""
    for one in episodes:
        token = await front.lease(one.tenant, one.episode_id)
        await front.fill(Kept(one, {}), token)


class FakeFront:
    """Keeps episodes as Redis does, for ever."""

    def __init__(self) -> None:
        self.values: dict[Key, Kept] = {}
        self.gone: set[Key] = set()
        self.leases: dict[Key, str] = {}
        self.spoilt: set[Key] = set()
        self.down = False

    async def write(self, writes: Sequence[KeptWrite]) -> list[Landed]:
        self._check()
        return [self._land(one) for one in writes]

    def _land(self, one: KeptWrite) -> Landed:
        key = one.tenant, one.episode_id
        if key in self.gone:
            return Landed.GONE
        kept = self.values.get(key)
        if kept is None:
            self.leases.pop(key, None)
            if one.opening is None:
                return Landed.ABSENT
            at = (one.opening.created_at or NOON).isoformat()
            self.values[key] = Kept(opened(*key, one.opening, created_at=at), {})
            return Landed.CREATED
        closed = fold(kept.base.body.encode(), kept.entries).closed
        if one.kind == "open" or one.entry_id in kept.entries or (closed and one.kind == "close"):
            return Landed.KNOWN
        if closed and one.kind != "extend":
            return Landed.CLOSED
        entry = Entry(one.seq, one.kind, one.body, one.ttl_seconds)
        self.values[key] = Kept(kept.base, {**kept.entries, one.entry_id: entry})
        return Landed.CREATED

    async def get(self, tenant: str, episode_id: str) -> Cached | None:
        self._check()
        return self._cached((tenant, episode_id))

    def begin_get(self, key: Key, tell: Callable[[Cached | None], None]) -> bool:
        if not self.down:
            tell(self._cached(key))
        return not self.down

    def _cached(self, key: Key) -> Cached | None:
        if key in self.gone:
            return Cached(None, gone=True)
        kept = self.values.get(key)
        if kept is None or key in self.spoilt:
            return None
        return Cached(encode(fold(kept.base.body.encode(), kept.entries)))

    async def lease(self, tenant: str, episode_id: str) -> str:
        self._check()
        token = self.leases[tenant, episode_id] = f"lease {len(self.leases)}"
        return token

    async def fill(self, found: Kept, token: str) -> bool:
        self._check()
        key = found.base.tenant, found.base.episode_id
        if self.leases.pop(key, None) != token:
            return False
        self.values[key] = found
        self.spoilt.discard(key)
        return True

    async def drop(self, keys: Sequence[Key]) -> None:
        self._check()
        for key in keys:
            self.values.pop(key, None)
            self.leases.pop(key, None)

    async def bury(self, tenant: str, episode_id: str) -> None:
        await self.drop([(tenant, episode_id)])
        self.gone.add((tenant, episode_id))

    def _check(self) -> None:
        if self.down:
            raise FrontDown


class FakeStream:
    """Hands writes on when told to, and at once unless `held`."""

    def __init__(self, kept: FakeEpisodes) -> None:
        self._kept = kept
        self.waiting: list[KeptWrite] = []
        self.held = False
        self.refuses: OctarmError | None = None

    async def keep(self, writes: Sequence[KeptWrite]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.waiting += writes
        if not self.held:
            await self.drain()

    async def drain(self) -> None:
        waiting, self.waiting = self.waiting, []
        await self._kept.keep(waiting)

    async def drained(self, within_s: float) -> bool:
        return not self.waiting


def a_loader(
    kept: FakeEpisodes, front: FakeFront | None = None, stream: FakeStream | None = None
) -> LoadEpisode:
    stream = stream or FakeStream(kept)
    return LoadEpisode(kept, front or FakeFront(), stream, HandOver(stream))


def hours_later(hours: float) -> str:
    return (NOON + timedelta(hours=hours)).isoformat()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
