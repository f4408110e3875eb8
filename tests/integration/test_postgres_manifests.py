"""The script of deploy/k8s/base/postgres on a real Postgres: each service has its own, no more."""

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from octarm.cli.stack.binaries import find_postgres
from octarm.common.storage.migrations import upgrade
from octarm.ledger.schema import MIGRATIONS, SCHEMA
from octarm.memory import schema as memory
from tests.support.manifests.cluster import K8S

pytestmark = pytest.mark.integration


@pytest.fixture
def urls(postgres_url: str, tmp_path: Path) -> dict[str, str]:
    """Run the script as the image does at its first start; gives the URL of each role."""
    psql = find_postgres().path.with_name("psql")
    if not psql.exists():
        pytest.skip("there is no psql beside postgres")
    server = urlsplit(postgres_url)
    database = server.path.removeprefix("/")
    found = {}
    suffix = database.replace("-", "_")
    text = (K8S / "base/postgres/roles.sh").read_text()
    # The server is shared by tests, and a role is of all its databases.
    for role in ("orchestrator", "memory"):
        (tmp_path / f"{role}_{suffix}").write_text(f"secret of {role}\n")
        text = re.sub(rf"(?<= ){role}(?=[ ;])", f"{role}_{suffix}", text)
        login = f"{role}_{suffix}:secret%20of%20{role}"
        found[role] = f"postgresql://{login}@{server.hostname}:{server.port}/{database}"
    text = text.replace("/run/secrets/postgres", str(tmp_path))
    text = text.replace("--username postgres", f"--username {server.username}")
    text = text.replace("--dbname octarm", f"--dbname {database}")
    text = text.replace("psql --set", f"{psql} --set")
    text = text.replace("database octarm", f"database {database}")
    environment = {
        **os.environ,
        "PGHOST": server.hostname or "",
        "PGPORT": str(server.port),
        "PGPASSWORD": server.password or "",
    }
    subprocess.run(["bash", "-c", text], check=True, env=environment, timeout=60)
    return found


def test_each_role_migrates_its_own_and_reads_nothing_of_the_other(urls: dict[str, str]) -> None:
    upgrade(urls["orchestrator"], MIGRATIONS, SCHEMA)
    upgrade(urls["memory"], memory.MIGRATIONS, memory.SCHEMA)

    with psycopg.connect(urls["orchestrator"]) as one, psycopg.connect(urls["memory"]) as other:
        one.execute("select count(*) from ledger.task")
        with pytest.raises(InsufficientPrivilege):
            one.execute("select count(*) from memory.episode")
        with pytest.raises(InsufficientPrivilege):
            other.execute("select count(*) from ledger.task")


def test_a_wrong_password_is_refused(urls: dict[str, str]) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(urls["memory"].replace("secret", "guess"))
