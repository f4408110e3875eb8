"""Bring the schema `memory` to its newest version; only the command loads this."""

from typing import NoReturn

from octarm.common.service import read_settings
from octarm.common.storage.migrations import run_command
from octarm.memory.schema import MIGRATIONS, SCHEMA
from octarm.memory.settings import Settings


def migrate() -> NoReturn:
    """Migrate and exit: 0, or 78 with one line when that cannot be done."""
    run_command(_url, MIGRATIONS, schema=SCHEMA, name="memory")


def _url() -> str:
    return read_settings(Settings).postgres_url.get_secret_value()
