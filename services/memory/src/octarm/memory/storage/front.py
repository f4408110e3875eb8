"""Episodes in Redis, for a while."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from octarm.common import telemetry
from octarm.memory.domain.episode import Episode
from octarm.memory.usecases.ports import FrontDown

PAUSE_S: Final = 2.0
PUT_AT_ONCE: Final = 250

log = telemetry.get_logger()

# One call for many keys: a tenth of what a pipeline of SETs costs this process.
_PUT: Final = """
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1])
end
"""


class RedisFront:
    """Keeps episodes for `ttl_s` seconds; after a failure it is not asked for two seconds."""

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._not_before = 0.0

    async def put(self, episodes: Sequence[Episode]) -> None:
        """Keep these for their time; raises FrontDown."""
        with self._redis_errors():
            for start in range(0, len(episodes), PUT_AT_ONCE):
                some = episodes[start : start + PUT_AT_ONCE]
                keys = [_key(one.tenant, one.episode_id).encode() for one in some]
                bodies = [one.body.encode() for one in some]
                await self._redis.eval(_PUT, len(keys), *keys, self._ttl_s, *bodies)

    async def get(self, tenant: str, episode_id: str) -> bytes | None:
        """Give what is there; a value of another kind than text is a miss. Raises FrontDown."""
        with self._redis_errors():
            try:
                value = await self._redis.get(_key(tenant, episode_id))
            except ResponseError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                return None
            return value.encode() if isinstance(value, str) else value

    @contextmanager
    def _redis_errors(self) -> Iterator[None]:
        if time.monotonic() < self._not_before:
            raise FrontDown
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            self._not_before = time.monotonic() + PAUSE_S
            log.warning("redis_does_not_answer", error=str(error) or type(error).__name__)
            raise FrontDown from error


def _key(tenant: str, episode_id: str) -> str:
    return f"octarm:memory:episode:{tenant}:{episode_id}"
