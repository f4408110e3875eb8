"""Search of semantic memory over many rows, beside plain SQL in the same run.

`python -m bench.memory_search --rows 100000` fills an embedded Postgres with texts of a made-up
language (common words, and words of one of many subjects), asks questions about them, and prints
times and recall. `bench.memory_curve` does so for ever more rows.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg

from octarm.cli.stack.servers import postgres_server
from octarm.common.storage import open_pool
from octarm.common.storage.connections import Pool
from octarm.common.storage.migrations import upgrade
from octarm.memory.domain.access import Diodes
from octarm.memory.domain.hashing import DIMENSION, NAME, hashed
from octarm.memory.embedders.hashing import HashingEmbedder
from octarm.memory.schema import MIGRATIONS, SCHEMA
from octarm.memory.storage.semantic import PostgresKnowledge
from octarm.memory.storage.walls import as_vector
from octarm.memory.storage.words import PostgresWords
from octarm.memory.usecases.embedding import Embedders
from octarm.memory.usecases.finding import Reading, SearchKnowledge
from octarm.memory.usecases.knowledge import Audited
from octarm.memory.usecases.pacing import Pace
from octarm.models.ids import typeid, uuid7
from octarm.models.semantic import SearchMemory

# What a vector of 256 halves takes in the index while it is built, rather more.
GRAPH_BYTES: Final = 2048

# A third of the words of any English text, the most frequent first.
FUNCTION_WORDS = (
    "the of and to a in is that for it as was with be by on not he i this are or his from at which"
    " but have an had they you were their one we can there been has more so if no will when who"
)
SUBJECTS, WORDS_EACH, COMMON, LENGTH = 400, 60, 300, 40
COLUMNS = (
    "tenant, memory_id, entity_type, content, content_hash, metadata, source, found_at,"
    " confidence, tags, space, vec"
)
# What one would write by hand: both lists, ranks added up, no walls and no reasons.
PLAIN = """
with t as (
    select memory_id, row_number() over (order by ts_rank_cd(words, q) desc) as place
    from memory.semantic, websearch_to_tsquery('english', %(any)s) q
    where words @@ q and tenant = 'acme' and superseded_by is null
    order by ts_rank_cd(words, q) desc limit 50
), v as (
    select memory_id, row_number() over () as place from (
        select memory_id from memory.semantic
        where tenant = 'acme' and space = 1 and superseded_by is null
        order by (vec::halfvec({dimension})) <=> %(vec)s::halfvec({dimension}) limit 50
    ) nearest
)
select s.*, coalesce(1.0 / (60 + t.place), 0) + coalesce(1.0 / (60 + v.place), 0) as score
from t full join v using (memory_id) join memory.semantic s using (memory_id)
where s.tenant = 'acme' order by score desc limit 10
""".replace("{dimension}", str(DIMENSION))
EXACT = f"""
select memory_id from memory.semantic where tenant = 'acme' and space = 1
order by ((vec::halfvec({DIMENSION})) <=> %s::halfvec({DIMENSION})) + 0 limit 10
"""


class Language:
    """A made-up language: every text is about one subject, in common words and its own.

    The most common words are those of English, as in any text; a `flat` language has none of
    them, so that every text resembles every other one: the hardest case for an index of vectors.
    """

    def __init__(self, seed: int, *, flat: bool = False) -> None:
        self._random = Random(seed)
        most_common = [] if flat else FUNCTION_WORDS.split(" ")
        self._common = most_common + [self._word() for _ in range(COMMON - len(most_common))]
        self._subjects = [[self._word() for _ in range(WORDS_EACH)] for _ in range(SUBJECTS)]
        weights = [1 / (place + 1) for place in range(COMMON)]
        self._weights = list(itertools.accumulate(weights))

    def _word(self) -> str:
        parts = self._random.choices(["ka", "ro", "mi", "tu", "se", "lan", "dor", "vip", "qu"], k=4)
        return "".join(parts) + self._random.choice("bdfgklmnprt")

    def text(self, length: int = LENGTH) -> str:
        """Say something about one subject; half of the words are its own."""
        own = self._random.choices(self._random.choice(self._subjects), k=length // 2)
        rest = self._random.choices(self._common, cum_weights=self._weights, k=length // 2)
        words = own + rest
        self._random.shuffle(words)
        return " ".join(words)


def rows(language: Language, number: int) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a table of so many memories."""
    now = datetime.now(UTC)
    for place in range(number):
        text = language.text()
        memory_id = typeid("mem", uuid7(1_800_000_000_000 + place, place))
        digest = place.to_bytes(32)
        vector = as_vector(hashed(text))
        yield "acme", memory_id, "fact", text, digest, "{}", "writer", now, 1.0, [], 1, vector


def fill(url: str, number: int, *, flat: bool = False) -> dict[str, float]:
    """Write the rows with their words, then index their vectors; gives the seconds of both."""
    language = Language(1, flat=flat)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select memory.space_of(%s, %s)", [NAME, DIMENSION])
        of_words, of_vectors = connection.execute(
            "select indexdef from pg_indexes"
            " where indexname in ('semantic_space_1', 'semantic_words') order by indexname desc"
        ).fetchall()
        connection.execute("drop index memory.semantic_space_1, memory.semantic_words")
        connection.execute("truncate memory.semantic")
        began = time.perf_counter()
        with connection.cursor() as cursor:
            copy_rows(cursor, language, number)
        connection.execute(of_words[0].encode())
        copied = time.perf_counter()
        # Once the graph no longer fits, each further row costs many times as much.
        memory_mb = max(512, number * GRAPH_BYTES // 1024**2)
        connection.execute(f"set maintenance_work_mem = '{memory_mb:d}MB'".encode())
        connection.execute(of_vectors[0].encode())
        built = time.perf_counter()
        connection.execute("vacuum analyze memory.semantic")
    return {"copy_s": copied - began, "index_s": built - copied}


def copy_rows(cursor: "psycopg.Cursor[Any]", language: Language, number: int) -> None:
    """Copy rows in."""
    with cursor.copy(f"copy memory.semantic ({COLUMNS}) from stdin") as copy:
        for row in rows(language, number):
            copy.write_row(row)


class Unheard:
    """An audit that keeps nothing."""

    def note(self, entry: Audited) -> None:
        """Drop it."""


def searching(pool: Pool) -> SearchKnowledge:
    """Wire the search as the service does, with nobody to write the audit."""
    reading = Reading(Diodes({}), Pace(), Unheard(), lambda: datetime.now(UTC))
    return SearchKnowledge(PostgresKnowledge(pool), Embedders(HashingEmbedder()), reading)


async def timed(calls: list[Callable[[], Awaitable[Any]]]) -> tuple[list[float], list[Any]]:
    """Make the calls one after the other; gives milliseconds and answers."""
    times, answers = [], []
    for call in calls:
        began = time.perf_counter()
        answers.append(await call())
        times.append((time.perf_counter() - began) * 1000)
    return times, answers


def shares(times: list[float]) -> dict[str, float]:
    """Give the median and the 95th hundredth, in milliseconds."""
    cuts = statistics.quantiles(times, n=20)
    return {"p50_ms": round(cuts[9], 2), "p95_ms": round(cuts[18], 2)}


def bound(ask: Callable[[str], Awaitable[Any]], some: list[str]) -> list[Any]:
    """Give a call for each question."""
    return [partial(ask, question) for question in some]


async def measure(url: str, number: int, queries: int, *, flat: bool) -> dict[str, Any]:
    """Fill the table and ask: ours, plain SQL, and exact search for the recall."""
    filled = await asyncio.to_thread(lambda: fill(url, number, flat=flat))
    figures: dict[str, Any] = {"rows": number, "flat": flat, **filled}
    pool = await open_pool(url, name="bench", wait_s=60)
    await PostgresWords(pool).learn()
    asked = Language(1, flat=flat)
    asked._random.seed(2)
    questions = [asked.text(10) for _ in range(queries)]
    search = searching(pool)

    async def ours(question: str) -> Any:
        return await search(SearchMemory(tenant="acme", query=question, k=10))

    async def near(question: str) -> Any:
        query = SearchMemory(tenant="acme", query=question, k=10, mode="vector")
        return [hit.memory.memory_id for hit in (await search(query)).hits]

    async def plain(question: str) -> Any:
        words = " or ".join(question.split())
        asked = {"any": words, "vec": as_vector(hashed(question))}
        async with pool.connection() as connection:
            return await (await connection.execute(PLAIN.encode(), asked)).fetchall()

    async def exact(question: str) -> Any:
        async with pool.connection() as connection:
            cursor = await connection.execute(EXACT.encode(), [as_vector(hashed(question))])
            return [row[0] for row in await cursor.fetchall()]

    await timed(bound(ours, questions[:20]))
    figures["ours"] = shares((await timed(bound(ours, questions)))[0])
    figures["plain SQL"] = shares((await timed(bound(plain, questions[:50])))[0])
    sample = questions[:50]
    exact_times, wanted = await timed(bound(exact, sample))
    figures["exact vectors"] = shares(exact_times)
    _, found = await timed(bound(near, sample))
    hits = sum(len(set(one) & set(other)) for one, other in zip(found, wanted, strict=True))
    figures["recall@10"] = hits / sum(map(len, wanted))
    await pool.close()
    return figures


async def run(
    rows_wanted: list[int], queries: int, *, flat: bool = False
) -> AsyncGenerator[dict[str, Any], None]:
    """Measure each size on one Postgres of our own; prints a line of JSON for each and gives it."""
    with tempfile.TemporaryDirectory(prefix="octarm-bench-") as folder:
        server = postgres_server(Path(folder), durable=False)
        await server.start()
        try:
            upgrade(server.url, MIGRATIONS, SCHEMA)
            for number in rows_wanted:
                figures = await measure(server.url, number, queries, flat=flat)
                print(json.dumps(figures), flush=True)
                yield figures
        finally:
            await server.stop()


async def alone(rows_wanted: int, queries: int, *, flat: bool) -> None:
    """Measure one size."""
    async with aclosing(run([rows_wanted], queries, flat=flat)) as found:
        async for _ in found:
            pass


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--flat", action="store_true", help="a language without function words")
    given = parser.parse_args()
    asyncio.run(alone(given.rows, given.queries, flat=given.flat))


if __name__ == "__main__":
    main()
