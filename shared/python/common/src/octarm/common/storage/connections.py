"""Opening Postgres and Redis with the settings that we rely on."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from psycopg import AsyncConnection, Error, InterfaceError, OperationalError
from psycopg.errors import IdleInTransactionSessionTimeout as IdleInTransaction
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from octarm.common.storage.arrays import teach
from octarm.models.errors import Unavailable

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]
OPEN_TIMEOUT_S = 10.0
# Longer is not waited for a connection: whoever asked gets an answer while he still listens.
WAIT_S = 1.5
# The pool makes its pauses between attempts longer up to this; a server that restarts comes
# back within seconds.
RECONNECT_S = 3.0
# A process that is paused in a transaction must not hold the others' rows for ever.
IDLE_IN_TRANSACTION_S = 15
_AWAY: Final = (PoolTimeout, OperationalError, InterfaceError, IdleInTransaction)
# Our statements find rows by key, a batch of them at a time. A generic plan does that; a plan
# for the very arrays of a call hashes whole tables while their statistics are young. And a plan
# that was made while a table was empty is kept while it grows: it must not read the whole table.
_OPTIONS = (
    "-c timezone=UTC -c jit=off -c plan_cache_mode=force_generic_plan -c enable_seqscan=off"
    f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S}s"
)


async def open_pool(
    url: str, *, name: str, min_size: int = 1, max_size: int = 4, wait_s: float = WAIT_S
) -> Pool:
    """Open a pool of autocommit connections; the caller closes it.

    Whoever needs one waits `wait_s` seconds for it at most.

    Raises:
        Unavailable: Postgres does not answer in ten seconds.
    """
    pool: Pool = AsyncConnectionPool(
        url,
        min_size=min_size,
        max_size=max_size,
        open=False,
        timeout=wait_s,
        reconnect_timeout=RECONNECT_S,
        kwargs={
            "application_name": f"octarm-{name}",
            "autocommit": True,
            "prepare_threshold": 2,
            "connect_timeout": 2,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "options": _OPTIONS,
        },
        configure=teach,
        name=name,
    )
    try:
        await pool.open(wait=True, timeout=OPEN_TIMEOUT_S)
    except (PoolTimeout, Error) as error:
        await pool.close()
        raise Unavailable(
            f"Postgres does not answer: {str(error).splitlines()[0]}",
            "Check OCTARM_POSTGRES_URL and that the server runs; `octarm doctor` tells.",
        ) from error
    return pool


class connected:  # noqa: N801 - used like a function
    """Borrow a connection.

    Not by the pool's own way, which ends with a commit: here each statement commits itself, or
    stands in a transaction that ends itself; and generators cost more than a class.

    Raises:
        Unavailable: Postgres is away; a commit under way may or may not have happened.
    """

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Connection:
        """Take a connection out of the pool."""
        try:
            self._connection = await self._pool.getconn()
        except _AWAY as error:
            raise _unavailable(error) from error
        return self._connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Give it back; the pool rolls back what stands open, and replaces what is broken."""
        await self._pool.putconn(self._connection)
        if isinstance(error, _AWAY):
            raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    first = str(error).strip().splitlines() or [type(error).__name__]
    return Unavailable(f"Postgres: {first[0]}", retry_after_s=1)


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncGenerator[Connection, None]:
    """Borrow a connection for one transaction; raises as `connected` does."""
    async with connected(pool) as connection, connection.transaction():
        yield connection


def open_redis(url: str, *, timeout_s: float = 1.0) -> Redis:
    """Make a Redis client that connects on use; the caller closes it.

    A call takes at most `timeout_s` seconds: Redis is a cache in front, and slow is absent.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=15,
        decode_responses=False,
    )
