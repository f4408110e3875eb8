"""Migrations expand; what contracts waits for a version that no longer needs it.

During a rolling upgrade the processes of the version before work on the new tables. So a migration
may add what they need not know, and take nothing away that they use (docs/guides/migrations.md).
"""

import re
from collections.abc import Iterator

import pytest

from tests.support.sources import ROOT

FOLDERS = (
    ROOT / "shared/python/ledger/src/octarm/ledger/migrations/versions",
    ROOT / "services/memory/src/octarm/memory/migrations/versions",
)
# What takes something away from a process of the version before, or refuses what it writes.
CONTRACTING = {
    "drops a column": r"drop\s+column",
    "drops a table": r"drop\s+(?:table|view|schema)",
    "renames": r"\brename\s+(?:to|column|constraint)\b",
    "changes a type": r"alter\s+column\s+\w+\s+(?:set\s+data\s+)?type\b",
    "makes a column mandatory": r"alter\s+(?:column\s+)?\w+\s+set\s+not\s+null",
    "adds a mandatory column without a default": (
        r"add\s+column\s+(?:if\s+not\s+exists\s+)?\w+\s+"
        r"(?![^,;]*\b(?:default|generated)\b)[^,;]*\bnot\s+null\b"
    ),
}
# (migration, what it does): since which version nothing uses what it takes away.
SINCE: dict[tuple[str, str], str] = {
    # The whole table of before becomes a partition of the new one of its name, in one transaction.
    ("0008_months", "renames"): "0.1.0, the first: nothing was released before it",
}


def _upgrades() -> Iterator[tuple[str, str]]:
    """Give each migration's name and SQL, without what only going back runs."""
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            yield path.stem, path.read_text(encoding="utf-8").split("def downgrade")[0]
        for path in sorted(folder.rglob("*.sql")):
            yield f"{path.parent.name}/{path.stem}", path.read_text(encoding="utf-8")


def contractions(text: str) -> set[str]:
    return {what for what, pattern in CONTRACTING.items() if re.search(pattern, text, re.I)}


def test_no_migration_takes_away_what_the_version_before_uses() -> None:
    found = {(name, what) for name, text in _upgrades() for what in contractions(text)}

    assert found == set(SINCE)


def test_there_is_something_to_look_at() -> None:
    assert len(list(_upgrades())) >= 13


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("alter table t drop column a", {"drops a column"}),
        ("drop table ledger.t", {"drops a table"}),
        ("alter table t rename column a to b", {"renames"}),
        ("alter table t alter column a type bigint", {"changes a type"}),
        ("alter table t alter column a set data type text", {"changes a type"}),
        ("alter table t alter a set not null", {"makes a column mandatory"}),
        ("alter table t ALTER COLUMN a SET NOT NULL", {"makes a column mandatory"}),
        ("add column a int not null", {"adds a mandatory column without a default"}),
        ("add column a int not null default 0, add column b int", set()),
        ("add column a int, add column b int", set()),
        ("create table t (a int not null)", set()),
    ],
)
def test_recognises_what_contracts(text: str, found: set[str]) -> None:
    assert contractions(text) == found
