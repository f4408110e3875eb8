"""How frequent words are: learnt from the statistics that Postgres gathers by itself."""

import asyncio
from typing import Final

from octarm.common import telemetry
from octarm.common.clock import set_within
from octarm.common.storage.connections import Pool, connected
from octarm.memory.storage.errors import postgres_errors
from octarm.models.errors import OctarmError

LEARN_EVERY_S: Final = 60.0

log = telemetry.get_logger()


class PostgresWords:
    """Keeps `memory.word` in step; searches are right without it, and slower."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def learn(self) -> int:
        """Learn anew; gives how many words are frequent enough to be known."""
        with postgres_errors():
            async with connected(self._pool) as connection:
                cursor = await connection.execute("select memory.learn_words()")
                row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def run(self, stop: asyncio.Event) -> None:
        """Learn every minute until `stop` is set."""
        while not stop.is_set():
            try:
                await self.learn()
            except OctarmError as error:
                log.warning("words_not_learnt", error=error.message)
            await set_within(stop, LEARN_EVERY_S)
