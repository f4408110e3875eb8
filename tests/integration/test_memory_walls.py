"""Who sees what of semantic memory: tenants behind walls, arms behind diodes."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

import psycopg
import pytest
import pytest_asyncio

from octarm.common.storage.connections import Connection, Pool, transaction
from octarm.memory.domain.access import Access, Scope
from octarm.memory.domain.hashing import hashed
from octarm.memory.domain.paging import Question
from octarm.memory.storage.episodes import PostgresEpisodes
from octarm.memory.storage.walls import as_vector, behind_wall
from octarm.memory.storage.writes import PostgresWrites
from octarm.models.errors import Backpressure, Forbidden, NotFound
from octarm.models.semantic import ForgetMemory, NewMemory
from tests.support.episodes import an_entry, an_episode_id, an_opening
from tests.support.semantic import Memory, a_memory_pool, at

pytestmark = pytest.mark.integration
QUERIES, AT_ONCE = 10_000, 2_000
WORDS = ["ink", "squid", "port", "secret", "gateway", "hearts", "three", "8080"]
FORGED = [
    "=other", "'=other'", "other", "' or tenant = 'other", "=other | ink", "*", "", " ",
    "ink) or (1=1", "\\'; set octarm.tenant = 'other'; --", "%", "$1", "ink & !squid",
]  # fmt: skip
_MANY = """
select count(*), count(*) filter (where not c.memory_id like any(%(own)s))
from unnest(
    %(queries)s::text[], %(vectors)s::text[], %(filters)s::json[]
) as asked (query, vec, filter)
cross join lateral memory.candidates(
    asked.query, 1::smallint, asked.vec::halfvec, (filter ->> 'exact')::boolean, 20,
    (select array_agg(x) from json_array_elements_text(filter -> 'types') x),
    (select array_agg(x) from json_array_elements_text(filter -> 'tags') x),
    (select array_agg(x) from json_array_elements_text(filter -> 'any') x),
    (select array_agg(x) from json_array_elements_text(filter -> 'none') x),
    (select array_agg(x) from json_array_elements_text(filter -> 'sources') x),
    (filter ->> 'confidence')::float8, null, null
) c
"""


@pytest_asyncio.fixture
async def pool(postgres_url: str) -> AsyncGenerator[Pool, None]:
    async with a_memory_pool(postgres_url) as pool:
        yield pool


def some(random: Random, values: list[str]) -> list[str]:
    return random.sample(values, random.randint(0, 2))


def a_forged_filter(random: Random) -> str:
    return json.dumps(
        {
            "exact": random.random() < 0.5,
            "types": some(random, ["fact", "task", "x' or '1'='1"]),
            "tags": some(random, ["sea", "other", "}"]),
            "any": some(random, ["sea", "other", "{other}"]),
            "none": some(random, ["sea", "acme"]),
            "sources": some(random, ["writer", "other", "reader"]),
            "confidence": random.choice([0, 0.5, -1, 1]),
        }
    )


async def test_no_query_shows_another_tenants_memories(pool: Pool) -> None:
    """10,000 random queries, of random and forged words, vectors and filters."""
    memory, random = Memory(pool), Random(7)
    for tenant in ("acme", "other"):
        for source in ("writer", "reader"):
            texts = [" ".join(random.choices(WORDS, k=6)) + f" {n}" for n in range(40)]
            await memory.remember(
                *(
                    NewMemory(content=text, tags=some(random, ["sea", "other"]), merge=False)
                    for text in texts
                ),
                tenant=tenant,
                source=source,
            )
    async with pool.connection() as connection:
        rows = await connection.execute("select memory_id from memory.semantic where tenant='acme'")
        own = [row[0] for row in await rows.fetchall()]
    vectors = [as_vector(hashed(word)) for word in (*WORDS, *FORGED)]

    found = foreign = 0
    for _ in range(QUERIES // AT_ONCE):
        asked = {
            "own": own,
            "queries": [
                " ".join([*random.choices(WORDS, k=2), random.choice(FORGED)])
                for _ in range(AT_ONCE)
            ],
            "vectors": random.choices(vectors, k=AT_ONCE),
            "filters": [a_forged_filter(random) for _ in range(AT_ONCE)],
        }
        async with behind_wall(pool, "acme") as wall:
            (counts,) = await (await wall.execute(_MANY, asked)).fetchall()
        found, foreign = found + counts[0], foreign + counts[1]

    assert found > QUERIES
    assert foreign == 0


_MANY_EPISODES: Final = """
select count(*), count(*) filter (where not c.episode_id = any(%(own)s))
from unnest(
    %(words)s::text[], %(ids)s::text[], %(tags)s::text[]
) as asked (word, id, tag)
cross join lateral (
    select episode_id from memory.episode
    where episode_id = asked.id or tenant = asked.word or arm_id = asked.word
        or tags @> array[asked.tag] or body::text like '%%' || asked.word || '%%'
    union all select memory.tagged(asked.tag)
    union all select episode_id from memory.episode_entry
    where episode_id = asked.id or body::text like '%%' || asked.word || '%%'
    union all select episode_id from memory.episode_gone where episode_id = asked.id
) c
"""


async def test_no_query_shows_another_tenants_episodes(pool: Pool) -> None:
    """10,000 random queries, of random and forged words, ids and tags."""
    random, writes = Random(8), PostgresWrites(pool)
    numbers = {"acme": range(1, 21), "other": range(21, 41)}
    for tenant, some_numbers in numbers.items():
        await writes.keep([an_opening(n, tenant=tenant, tags=["sea"]) for n in some_numbers])
        body = " ".join(random.choices(WORDS, k=6))
        await writes.keep([an_entry("1", body, number=n, tenant=tenant) for n in some_numbers])
    await writes.bury("other", an_episode_id(40))
    own = [an_episode_id(n) for n in numbers["acme"]]
    ids = [an_episode_id(n) for n in range(1, 41)]

    found = foreign = 0
    for _ in range(QUERIES // AT_ONCE):
        asked = {
            "own": own,
            "words": random.choices([*WORDS, *FORGED, "acme"], k=AT_ONCE),
            "ids": random.choices([*ids, *FORGED], k=AT_ONCE),
            "tags": random.choices(["sea", *FORGED], k=AT_ONCE),
        }
        async with behind_wall(pool, "acme") as wall:
            (counts,) = await (await wall.execute(_MANY_EPISODES, asked)).fetchall()
        found, foreign = found + counts[0], foreign + counts[1]

    assert found > QUERIES
    assert foreign == 0
    kept = PostgresEpisodes(pool)
    assert await kept.get("acme", an_episode_id(21)) is None
    tagged = await kept.find(Question("acme", tag="sea"), after=None, limit=50)
    assert sorted(one.base.episode_id for one in tagged) == own


@asynccontextmanager
async def behind_wall_refusing(pool: Pool) -> AsyncGenerator[Connection, None]:
    """Behind the wall, with errors as they are, and nothing kept."""
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute(
            "select set_config('role', 'octarm_memory', true),"
            " set_config('octarm.tenant', 'acme', true)"
        )
        yield connection


class TestRole:
    async def test_sees_and_writes_the_rows_of_its_tenant_only(self, pool: Pool) -> None:
        memory = Memory(pool)
        await memory.remember("ours")
        await memory.remember("theirs", tenant="other")

        async with behind_wall(pool, "acme") as wall:
            seen = await (await wall.execute("select content from memory.semantic")).fetchall()
            changed = await wall.execute("update memory.semantic set confidence = 0.1")
        async with behind_wall(pool, "") as wall:
            nothing = await (await wall.execute("select content from memory.semantic")).fetchall()

        assert (seen, changed.rowcount, nothing) == ([("ours",)], 1, [])
        assert (await memory.search("theirs", tenant="other")).hits[0].memory.confidence == 1.0

    async def test_may_do_nothing_else(self, pool: Pool) -> None:
        await Memory(pool).remember("ours")

        for forbidden in (
            "update memory.semantic set tenant = 'other'",
            "insert into memory.audit (tenant, action, verdict, about) values ('o', '', '', '{}')",
            "select * from memory.audit",
            "delete from memory.episode",
            "insert into memory.episode_gone (tenant, episode_id) values ('acme', 'x')",
            "select * from memory.consolidation",
            "alter table memory.semantic disable row level security",
            "select memory.learn_words()",
        ):
            async with behind_wall_refusing(pool) as connection:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await connection.execute(forbidden.encode())

    @pytest.mark.parametrize(
        ("rows", "among"), [(-1, 170), (100_000, 170), (400_000, 340), (1e9, 1000)]
    )
    async def test_the_nearest_are_sought_among_more_when_there_are_more(
        self, pool: Pool, rows: float, among: int
    ) -> None:
        async with transaction(pool) as connection:
            await connection.execute(
                "update pg_class set reltuples = %s where oid = 'memory.semantic'::regclass", [rows]
            )

        async with behind_wall(pool, "acme") as connection:
            cursor = await connection.execute("select current_setting('hnsw.ef_search')::int")
            assert await cursor.fetchone() == (among,)

    async def test_without_a_tenant_nothing_is_looked_for(self, pool: Pool) -> None:
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(
                    "select * from memory.candidates('x', null, null, true, 5,"
                    " null, null, null, null, null, 0, null, null)"
                )

    async def test_cannot_pass_by_the_policies(self, pool: Pool) -> None:
        async with pool.connection() as connection:
            row = await connection.execute(
                "select rolbypassrls, rolsuper, rolcanlogin from pg_roles"
                " where rolname = 'octarm_memory'"
            )

            assert await row.fetchall() == [(False, False, False)]


def scope(**fields: Any) -> Scope:
    return Scope.model_validate(fields)


class TestDiodes:
    async def test_an_arm_reads_what_it_may_and_is_shown_what_it_may(self, pool: Pool) -> None:
        docs = Access(read=scope(tags=["docs"], not_tags=["draft"]), properties=frozenset({"page"}))
        memory = Memory(pool, access={"librarian": docs})
        await memory.remember("ink of nobody")
        await memory.remember(NewMemory(content="ink of drafts", tags=["docs", "draft"]))
        (shown, hidden) = await memory.remember(
            NewMemory(content="ink of docs", tags=["docs"], metadata={"page": 1, "who": "x"}),
            NewMemory(content="ink of tasks", entity_type="task"),
        )

        found = await memory.search("ink", arm_id="librarian")
        one = await memory.get(shown.memory_id, arm_id="librarian")
        with pytest.raises(NotFound):
            await memory.get(hidden.memory_id, arm_id="librarian")

        assert [hit.memory.content for hit in found.hits] == ["ink of docs"]
        assert one.memory.metadata == {"page": 1}
        assert len((await memory.search("ink", arm_id="undeclared")).hits) == 4

    async def test_history_is_behind_the_same_diode(self, pool: Pool) -> None:
        memory = Memory(pool, access={"librarian": Access(read=scope(not_tags=["draft"]))})
        about = {"subject": "a", "predicate": "b"}
        await memory.remember(
            NewMemory(content="old", metadata=about, tags=["draft"], timestamp=at(1))
        )
        (new,) = await memory.remember(NewMemory(content="new", metadata=about, timestamp=at(2)))

        assert len((await memory.get(new.memory_id)).history) == 1
        assert (await memory.get(new.memory_id, arm_id="librarian")).history == []

    async def test_an_arm_writes_what_it_may_and_forgets_no_more(self, pool: Pool) -> None:
        notes = Access(read=None, write=scope(entity_types=["fact"], tags=["notes"]))
        memory = Memory(pool, access={"scribe": notes})
        (own, foreign, odd) = await memory.remember(
            NewMemory(content="a note", tags=["notes"]),
            NewMemory(content="no note", tags=["notes", "docs"]),
            NewMemory(content="a plan", tags=["notes"], entity_type="decision"),
            source="scribe",
        )
        (other,) = await memory.remember("of somebody else")
        with pytest.raises(Forbidden):
            await memory.search("note", arm_id="scribe")
        assert own.memory_id is not None
        assert other.memory_id is not None
        forget = memory.knowledge.forget
        with pytest.raises(Forbidden):
            await forget(ForgetMemory(tenant="acme", arm_id="scribe", memory_id=other.memory_id))
        gone = await forget(ForgetMemory(tenant="acme", arm_id="scribe", memory_id=own.memory_id))

        assert own.outcome == "created"
        assert gone.deleted == 1
        for answer in (foreign, odd):
            assert answer.problem is not None
            assert (answer.problem.status, answer.problem.code) == (403, "CAPABILITY_VIOLATION")

    async def test_an_arm_of_one_tenant_does_nothing_for_another(self, pool: Pool) -> None:
        memory = Memory(pool, access={"scribe": Access(tenants=frozenset({"acme"}))})

        (refused,) = await memory.remember("x", tenant="other", source="scribe")
        with pytest.raises(Forbidden):
            await memory.search("x", tenant="other", arm_id="scribe")

        assert refused.problem is not None
        assert refused.problem.status == 403

    async def test_an_arm_reads_as_often_as_it_may(self, pool: Pool) -> None:
        memory = Memory(pool, access={"reader": Access(reads_per_minute=1)})
        await memory.search("x", arm_id="reader")

        with pytest.raises(Backpressure):
            await memory.search("x", arm_id="reader")


class TestAudit:
    async def test_says_who_did_what_and_repeats_no_content(self, pool: Pool) -> None:
        memory = Memory(pool, access={"scribe": Access(read=None, write=None)})
        (kept,) = await memory.remember("a word in confidence")
        await memory.search("confidence", arm_id="reader")
        await memory.remember("a word", source="scribe")
        with pytest.raises(Forbidden):
            await memory.search("confidence", arm_id="scribe")
        await memory.trail.flush()
        await memory.trail.flush()

        async with pool.connection() as connection:
            rows = await connection.execute(
                "select arm_id, action, verdict, about::text from memory.audit"
                " order by action, arm_id"
            )
            entries = await rows.fetchall()

        assert [entry[:3] for entry in entries] == [
            ("scribe", "remember", "denied"),
            ("writer", "remember", "create"),
            ("reader", "search", "allowed"),
            ("scribe", "search", "denied"),
        ]
        assert json.loads(entries[1][3])["memory_id"] == kept.memory_id
        assert not any("confidence" in entry[3] for entry in entries)
