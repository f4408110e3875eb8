"""Bring the schema `memory` to its newest version; only the command loads this."""

import sys
from pathlib import Path
from typing import Final, NoReturn

from sqlalchemy.exc import DBAPIError

from octarm.common.service import EX_CONFIG, read_settings
from octarm.common.storage.migrations import upgrade
from octarm.memory.settings import Settings
from octarm.models.errors import OctarmError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
SCHEMA: Final = "memory"


def migrate() -> NoReturn:
    """Migrate and exit: 0, or 78 with one line when that cannot be done."""
    try:
        upgrade(read_settings(Settings).postgres_url.get_secret_value(), MIGRATIONS, SCHEMA)
    except (OctarmError, DBAPIError) as error:
        line = str(error).splitlines()[0]
        sys.stderr.write(f"octarm-memory migrate: {line}\n")
        sys.exit(EX_CONFIG)
    sys.exit(0)
