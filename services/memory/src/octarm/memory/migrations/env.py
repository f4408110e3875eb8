"""What alembic runs: see `octarm.common.storage.migrations`."""

from octarm.common.storage.migrations import migrate_online

migrate_online()
