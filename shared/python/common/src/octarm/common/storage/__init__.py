"""Connections to Postgres and Redis, group commit, migrations."""

from octarm.common.storage.batcher import Batcher
from octarm.common.storage.connections import Pool, connected, open_pool, open_redis, transaction

__all__ = ["Batcher", "Pool", "connected", "open_pool", "open_redis", "transaction"]
