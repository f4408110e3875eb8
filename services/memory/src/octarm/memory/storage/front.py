"""Episodes in Redis, for a while."""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from octarm.common import telemetry
from octarm.common.storage.redis_link import Part, RedisLink
from octarm.memory.domain.entries import (
    MAX_ENTRIES,
    MAX_EPISODE_BYTES,
    Entry,
    fold,
    opened,
    read_cached,
    stored,
)
from octarm.memory.storage import scripts
from octarm.memory.storage.gate import Epochs, Gate
from octarm.memory.usecases.ports import Cached, FrontDown, Kept, Key, Landed
from octarm.models.hot_episodes import KeptWrite

LEASE_S: Final = 10
GONE_S: Final = 3600
MAX_TO_CLEAR: Final = 10_000
MODES: Final = {"open": "o", "close": "c", "extend": "x"}
_WRITE: Final = hashlib.sha1(scripts.WRITE.encode(), usedforsecurity=False).hexdigest()
_LANDED: Final = {landed.value: landed for landed in Landed}

log = telemetry.get_logger()


class RedisFront:
    """Keeps episodes for `ttl_s` seconds behind a gate, which whoever made it runs."""

    def __init__(self, redis: Redis, epochs: Epochs, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self.gate = Gate(epochs, self._ping)
        self._link = RedisLink(redis, lost=self.gate.lost)
        self._fill = redis.register_script(scripts.FILL)
        self._bury = redis.register_script(scripts.BURY)

    async def write(self, writes: Sequence[KeptWrite]) -> list[Landed]:
        """Write in one atomic step; raises FrontDown."""
        self.gate.check()
        keys: list[bytes] = []
        values: list[Part] = [self.gate.epoch, MAX_EPISODE_BYTES, MAX_ENTRIES]
        for one in writes:
            key = _key(one.tenant, one.episode_id)
            keys += (key, key + b":lease")
            values += (MODES.get(one.kind, "a"), one.entry_id, *_value(one, self._ttl_s))
        try:
            with self._errors():
                return [_LANDED[landed] for landed in await self._written(keys, values)]
        except _Full:
            # These lack the write now. To delete is possible when to write is not.
            await self.drop([(one.tenant, one.episode_id) for one in writes])
            raise FrontDown from None

    async def _written(self, keys: Sequence[bytes], values: Sequence[Part]) -> Any:
        call = self._link.call
        try:
            return await call("EVALSHA", _WRITE, len(keys), *keys, *values)
        except ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        # A Redis that has been started anew knows no scripts.
        return await call("EVAL", scripts.WRITE, len(keys), *keys, *values)

    async def get(self, tenant: str, episode_id: str) -> Cached | None:
        """Give what is there; what is not this episode is a miss. Raises FrontDown."""
        self.gate.check()
        epoch = self.gate.epoch
        with self._errors():
            try:
                parts = await self._link.call("HGETALL", _key(tenant, episode_id))
            except ResponseError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                parts = []
        return _cached((tenant, episode_id), parts, epoch)

    def begin_get(self, key: Key, tell: Callable[[Cached | None], None]) -> bool:
        """Ask without a task; what is not told here, `get` finds again, and says why."""
        if not self.gate.is_open():
            return False
        epoch = self.gate.epoch

        def told(answer: Any) -> None:
            cached: Cached | None = None
            try:
                if isinstance(answer, list):
                    cached = _cached(key, answer, epoch)
                elif isinstance(answer, RedisError) and not isinstance(answer, ResponseError):
                    self.gate.lost(answer)
            finally:
                tell(cached)

        return self._link.begin(told, "HGETALL", _key(*key))

    async def lease(self, tenant: str, episode_id: str) -> str:
        """Begin to fill; raises FrontDown."""
        self.gate.check()
        token = f"{self.gate.epoch}.{uuid.uuid4().hex}"
        with self._errors():
            await self._redis.set(_key(tenant, episode_id) + b":lease", token, ex=LEASE_S)
        return token

    async def fill(self, found: Kept, token: str) -> bool:
        """Keep what was found, of the epoch in which the lease began. Raises FrontDown."""
        self.gate.check()
        epoch, _, _ = token.partition(".")
        key = _key(found.base.tenant, found.base.episode_id)
        body = found.base.body.encode()
        whole = fold(body, found.entries)
        ttl_s = whole.ttl_seconds
        entries = [(name, stored(entry)) for name, entry in found.entries.items()]
        size = sum(len(value) for _, value in entries)
        fields: list[bytes | str | int] = ["#e", epoch, "#h", body, "#s", size, "#t", ttl_s]
        fields += ("#c", 1) if whole.closed else ()
        fields += (part for entry in entries for part in entry)
        with self._errors():
            return bool(await self._fill([key, key + b":lease"], [token, ttl_s, *fields]))

    async def drop(self, keys: Sequence[Key]) -> None:
        """Take these away, or close the gate. Raises FrontDown."""
        names = [_key(*key) for key in keys]
        try:
            self.gate.check()
            with self._errors():
                await self._redis.unlink(*names, *(name + b":lease" for name in names))
        except FrontDown:
            self.gate.lost(FrontDown("it missed a write"))
            raise

    async def bury(self, tenant: str, episode_id: str) -> None:
        """Leave nothing but that it is gone; raises FrontDown, and then does so later."""
        key = _key(tenant, episode_id)
        try:
            self.gate.check()
            with self._errors():
                await self._bury([key, key + b":lease"], [self.gate.epoch, GONE_S])
        except FrontDown:
            if len(self.gate.clear) < MAX_TO_CLEAR:
                self.gate.clear.append(key)
            raise

    async def _ping(self) -> None:
        with self._errors():
            await self._redis.ping()
            if self.gate.clear:
                await self._redis.unlink(*self.gate.clear)
                self.gate.clear.clear()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ResponseError as error:
            if str(error).startswith("OOM") or "OOM command" in str(error):
                raise _Full from error
            self.gate.lost(error)
            raise FrontDown from error
        except (RedisError, OSError, TimeoutError) as error:
            self.gate.lost(error)
            raise FrontDown from error


class _Full(FrontDown):
    """Redis takes nothing more; it still answers."""


def _cached(key: Key, parts: Sequence[bytes], epoch: int) -> Cached | None:
    fields: dict[bytes, bytes] = dict(zip(parts[::2], parts[1::2], strict=True))
    if not fields or fields.get(b"#e") != b"%d" % epoch:
        return None
    if b"#g" in fields:
        return Cached(None, gone=True)
    entries = ((name, value) for name, value in fields.items() if not name.startswith(b"#"))
    body = read_cached(*key, fields.get(b"#h"), entries)
    if body is None:
        log.warning("cached_episode_unreadable", episode_id=key[1])
    return None if body is None else Cached(body)


def _value(write: KeptWrite, ttl_s: int) -> tuple[bytes, int]:
    opening = write.opening
    if opening is None:
        entry = Entry(write.seq, write.kind, write.body, write.ttl_seconds)
        return stored(entry), write.ttl_seconds or ttl_s
    created_at = opening.created_at.isoformat() if opening.created_at else ""
    base = opened(write.tenant, write.episode_id, opening, created_at=created_at)
    return base.body.encode(), opening.ttl_seconds


def _key(tenant: str, episode_id: str) -> bytes:
    return f"octarm:memory:episode:{tenant}:{episode_id}".encode()
