"""Say what a failing Postgres means."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolTimeout

from octarm.models.errors import Unavailable


@contextmanager
def postgres_errors() -> Iterator[None]:
    """Raise Unavailable for all but what is wrong with the data itself."""
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise Unavailable(
            "the memory schema is missing", "Run `octarm db migrate`.", retry_after_s=1
        ) from error
    except psycopg.DataError:
        raise
    except (psycopg.Error, PoolTimeout) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unavailable(f"Postgres: {reason}", retry_after_s=1) from error
