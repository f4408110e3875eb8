from octarm.common.storage.migrations import migrate_online

migrate_online()
