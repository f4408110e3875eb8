"""Connections to Postgres and Redis, group commit, migrations."""

from octarm.common.storage.batcher import Batcher
from octarm.common.storage.connections import open_pool, open_redis

__all__ = ["Batcher", "open_pool", "open_redis"]
