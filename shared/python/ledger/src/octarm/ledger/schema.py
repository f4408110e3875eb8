"""Where the ledger's tables are described."""

from pathlib import Path
from typing import Final

MIGRATIONS: Final = Path(__file__).parent / "migrations"
SCHEMA: Final = "ledger"
