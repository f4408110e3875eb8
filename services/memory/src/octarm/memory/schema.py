"""Where the tables of memory are described."""

from pathlib import Path
from typing import Final

MIGRATIONS: Final = Path(__file__).parent / "migrations"
SCHEMA: Final = "memory"
