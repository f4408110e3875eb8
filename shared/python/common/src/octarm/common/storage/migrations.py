"""Migrations: hand-written SQL, run by alembic from a command, never by a service at start."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from octarm.common.service import EX_CONFIG
from octarm.models.errors import OctarmError


def run_command(
    url: Callable[[], str], script_location: Path, *, schema: str, name: str
) -> NoReturn:
    """Upgrade as the command `migrate` of a service: exit with 0, or with 78 and one line."""
    try:
        upgrade(url(), script_location, schema)
    except (OctarmError, DBAPIError) as error:
        line = str(error).splitlines()[0]
        sys.stderr.write(f"octarm-{name} migrate: {line}\n")
        sys.exit(EX_CONFIG)
    sys.exit(0)


def upgrade(url: str, script_location: Path, schema: str) -> None:
    """Bring `schema` to the newest version; running it again does nothing.

    Two that run at once wait for each other by an advisory lock (see `migrate_online`).
    """
    config = Config()
    config.set_main_option("script_location", str(script_location))
    config.attributes["url"] = url
    config.attributes["schema"] = schema
    command.upgrade(config, "head")


def migrate_online() -> None:
    """Run the migrations of the alembic context at hand; each service's `env.py` calls it."""
    from alembic import context
    from sqlalchemy import create_engine, text

    config = context.config
    schema = config.attributes["schema"]
    url = config.attributes["url"].replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            lock = text("select pg_advisory_lock(hashtext(:name))")
            connection.execute(lock, {"name": f"octarm-migrate-{schema}"})
            connection.execute(text(f'create schema if not exists "{schema}"'))
            connection.commit()
            context.configure(
                connection=connection,
                version_table=f"{schema}_version",
                version_table_schema=schema,
            )
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
    finally:
        engine.dispose()
