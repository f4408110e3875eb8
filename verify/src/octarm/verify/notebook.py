"""A temporary SQLite file in which what was read from all sides is compared, in bounded memory."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from octarm.verify.lifecycle import TERMINAL, pairs

T = TypeVar("T")
BATCH: Final = 5_000

_TABLES: Final = """
create table task (id text primary key, tenant text, state text, attempt int, event_seq int,
    created_at real) without rowid;
create table event (task_id text, seq int, verb text, attempt int, tenant text, at real,
    primary key (task_id, seq)) without rowid;
create table clash (task_id text, seq int, one text, other text);
create table op (process text, invoked int, completed int, op text, outcome text, tenant text,
    key text, task_id text, args text,
    value text, object text);
create index op_by_task on op (task_id, invoked);
create index op_by_key on op (tenant, key) where key is not null;
create index op_by_object on op (object, invoked) where object is not null;
create table effect (task_id text, attempt int, call_no int);
create table flip (arm_id text, verb text);
create table dead (origin text, stream_seq int, task_id text);
create table follows (verb text, after text, primary key (verb, after)) without rowid;
create table ending (verb text primary key) without rowid;
"""
_EVENT: Final = "insert or ignore into event values (?, ?, ?, ?, ?, ?)"
_CLASH: Final = """
insert into clash select task_id, seq, verb || ' ' || attempt, ?3 || ' ' || ?4 from event
where task_id = ?1 and seq = ?2 and (verb <> ?3 or attempt <> ?4 or tenant <> ?5)
"""


@dataclass(frozen=True, slots=True)
class TaskFact:
    """One task event, as far as the invariants care."""

    task_id: str
    seq: int
    verb: str
    attempt: int
    tenant: str
    at: float
    """Unix seconds."""

    def row(self) -> tuple[Any, ...]:
        """Its columns."""
        return self.task_id, self.seq, self.verb, self.attempt, self.tenant, self.at


@dataclass(slots=True)
class Notebook:
    """Collects rows and runs SQL over them; `notebook()` opens and removes it."""

    db: sqlite3.Connection
    history_begins_at: float = 0.0
    """Unix seconds: of tasks accepted before, EVENTS may not have everything any more."""
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, table: str, rows: Iterable[Sequence[Any]]) -> int:
        """Add rows to a table, in bounded memory; gives their number."""
        added = 0
        for batch in _batches(rows):
            marks = ", ".join("?" * len(batch[0]))
            self.db.executemany(f"insert into {table} values ({marks})", batch)  # noqa: S608
            added += len(batch)
        self.counts[table] = self.counts.get(table, 0) + added
        return added

    def add_events(self, facts: Iterable[TaskFact]) -> None:
        """Add events; a repetition is dropped, another event under the same number is a clash."""
        for batch in _batches(fact.row() for fact in facts):
            before = self.db.total_changes
            self.db.executemany(_EVENT, batch)
            new = self.db.total_changes - before
            self.counts["event"] = self.counts.get("event", 0) + new
            if new < len(batch):
                self.db.executemany(_CLASH, [row[:5] for row in batch])
                again = len(batch) - new
                self.counts["repeated event"] = self.counts.get("repeated event", 0) + again

    def find(self, sql: str, parameters: dict[str, Any], first: int) -> tuple[int, list[str]]:
        """Run a statement that gives (id, detail): how many there are, and the first of them."""
        count = self.db.execute(f"select count(*) from ({sql})", parameters).fetchone()[0]  # noqa: S608
        rows = self.db.execute(f"{sql} limit {first:d}", parameters) if count else []
        return int(count), [" ".join(str(value) for value in row) for row in rows]


@contextmanager
def notebook() -> Iterator[Notebook]:
    """Open an empty notebook; its file is removed at the end."""
    with TemporaryDirectory(prefix="octarm-verify-") as folder:
        db = sqlite3.connect(Path(folder) / "notebook.sqlite", isolation_level=None)
        try:
            db.executescript("pragma journal_mode = off; pragma synchronous = off;")
            db.executescript(f"pragma temp_store = file; pragma cache_size = -65536; {_TABLES}")
            db.executemany("insert into follows values (?, ?)", pairs())
            db.executemany("insert into ending values (?)", [(verb,) for verb in TERMINAL])
            db.execute("begin")
            yield Notebook(db)
        finally:
            db.close()


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    source = iter(rows)
    while batch := list(islice(source, BATCH)):
        yield batch
