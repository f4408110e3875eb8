"""Vectors of a model behind HTTP, what it may do wrong, and making all of them anew."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr, ValidationError

from octarm.common.storage.connections import Pool
from octarm.memory.domain.hashing import NAME, hashed
from octarm.memory.domain.sameness import cosine
from octarm.memory.embedders import local
from octarm.memory.embedders.local import LocalEmbedder, local_embedder
from octarm.memory.embedders.openai_compatible import OpenAIEmbedder
from octarm.memory.settings import Settings
from octarm.models.errors import OctarmError, Unauthenticated, Unavailable
from octarm.models.semantic import MemoryFilter, NewMemory, ReembedMemories
from tests.support.openai_server import (
    OpenAIServer,
    Reply,
    an_openai_server,
    never_answers,
    refuses,
)
from tests.support.semantic import Memory, a_memory_pool

pytestmark = pytest.mark.integration
DIMENSION = 8
# Of the vector of a sentence, by the model from the wheel.
FOUR = [-0.0436, 0.0886, -0.0149, 0.0978]


def answering(content: bytes) -> Reply:
    async def reply(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + content)
        await writer.drain()

    return reply


async def vectors(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    """Embed as a model does: in another order than asked, and not at length 1."""
    items = [
        {"index": index, "embedding": [3 * part for part in hashed(text, DIMENSION)]}
        for index, text in enumerate(body["input"])
    ]
    await answering(json.dumps({"data": items[::-1], "model": "m"}).encode())(writer, body)


@asynccontextmanager
async def an_embedder(
    *script: Reply, **fields: Any
) -> AsyncGenerator[tuple[OpenAIEmbedder, OpenAIServer], None]:
    async with an_openai_server(*script, *[vectors] * 200) as server:
        embedder = OpenAIEmbedder(
            base_url=server.url,
            model="tiny/embed-1",
            dimension=DIMENSION,
            api_key=SecretStr("sk-secret"),
            **{"total_s": 30.0, "rest_s": 0.0} | fields,
        )
        yield embedder, server
        await embedder.aclose()


class TestOpenAIEmbedder:
    async def test_embeds_in_batches_and_in_order(self) -> None:
        texts = [f"text {number}" for number in range(150)]
        async with an_embedder() as (embedder, server):
            made = await embedder.embed(texts)

        assert [[round(part, 6) for part in one] for one in made] == [
            [round(part, 6) for part in hashed(text, DIMENSION)] for text in texts
        ]
        assert [len(body["input"]) for body in server.bodies] == [64, 64, 22]
        assert server.bodies[0]["model"] == "tiny/embed-1"
        assert "authorization: bearer sk-secret" in server.heads[0].lower()

    async def test_asks_again_after_a_passing_failure(self) -> None:
        async with an_embedder(refuses(503), refuses(429)) as (embedder, server):
            made = await embedder.embed(["x"])

        assert len(made) == 1
        assert len(server.bodies) == 3

    @pytest.mark.parametrize(
        "reply",
        [
            answering(b"{not json"),
            answering(b'{"data":[]}'),
            answering(b'{"data":[{"index":1,"embedding":[1,2,3,4,5,6,7,8]}]}'),
            answering(b'{"data":[{"index":0,"embedding":[1,2]}]}'),
            answering(b'{"data":[{"index":0,"embedding":[0,0,0,0,0,0,0,0]}]}'),
            answering(b'{"data":[{"index":0,"embedding":[1e300,1e300,1e300,0,0,0,0,NaN]}]}'),
            refuses(400),
            refuses(302, headers={"Location": "http://169.254.169.254/"}),
        ],
    )
    async def test_takes_nothing_that_is_no_vector(self, reply: Reply) -> None:
        async with an_embedder(reply) as (embedder, server):
            with pytest.raises(Unavailable):
                await embedder.embed(["x"])

        assert len(server.bodies) == 1

    async def test_says_that_its_key_is_not_accepted_and_not_the_key(self) -> None:
        async with an_embedder(refuses(401)) as (embedder, _):
            with pytest.raises(Unauthenticated) as refused:
                await embedder.embed(["x"])

            assert "sk-secret" not in repr(embedder) + str(refused.value)

    async def test_waits_no_longer_than_it_may_and_then_leaves_it_alone(self) -> None:
        async with an_embedder(never_answers, total_s=0.3, rest_s=60.0) as (embedder, server):
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await embedder.embed(["x"])

        assert len(server.bodies) == 1


@pytest.fixture(scope="module")
def model() -> LocalEmbedder:
    return local_embedder()


class TestLocalEmbedder:
    async def test_brings_texts_of_one_meaning_nearer(self, model: LocalEmbedder) -> None:
        question, right, wrong = await model.embed(
            ["How do I buy a car?", "A guide to purchasing automobiles", "A recipe for soup"]
        )

        assert cosine(question, right) > cosine(question, wrong) + 0.2

    async def test_is_the_same_for_ever_alone_or_among_others(self, model: LocalEmbedder) -> None:
        text = "Squids have three hearts."
        (alone,) = await model.embed([text])
        *_, last = await model.embed(["other " * 400, text])

        assert last == alone
        assert [round(part, 4) for part in alone[:4]] == FOUR

    @pytest.mark.parametrize("text", ["", "\x00", "漢字 😀", "a" * 50_000])
    async def test_points_somewhere_whatever_the_text(
        self, model: LocalEmbedder, text: str
    ) -> None:
        (vector,) = await model.embed([text])

        assert len(vector) == model.dimension
        assert cosine(vector, vector) == pytest.approx(1.0)

    def test_says_what_to_install_where_its_package_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(local, "find_spec", lambda name: None)

        with pytest.raises(OctarmError, match="wordllama-256 cannot be loaded") as refused:
            local_embedder()

        assert "octarm-memory[local]" in refused.value.recovery_hint


class TestSettings:
    @pytest.mark.bad_input(16)
    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/latest",
            "https://[::ffff:169.254.169.254]/",
            "https://0x7f000001/",
            "http://127.1/",
            "https://user:password@host.example/",
            "file:///etc/passwd",
            "gopher://host.example/",
            "http://metadata.google.internal/",
            "http://embedder.example/",
            "https://\u0430pi.example/",
            "https://host.example/?key=x",
            "https://",
        ],
    )
    def test_refuse_an_address_where_no_embedder_is(self, url: str) -> None:
        with pytest.raises(ValidationError, match="embeddings_url"):
            Settings(postgres_url=SecretStr("x"), embeddings_url=url, embeddings_model="m")

    def test_need_a_model_with_an_address(self) -> None:
        with pytest.raises(ValidationError, match="embeddings_model"):
            Settings(postgres_url=SecretStr("x"), embeddings_url="https://host.example/v1")

    def test_without_an_address_know_only_the_model_from_the_wheel(self) -> None:
        named = Settings(postgres_url=SecretStr("x"), embeddings_model="wordllama-256")

        assert named.embeddings_url is None
        with pytest.raises(ValidationError, match="needs embeddings_url"):
            Settings(postgres_url=SecretStr("x"), embeddings_model="text-embedding-3-small")


@pytest_asyncio.fixture
async def pool(postgres_url: str) -> AsyncGenerator[Pool, None]:
    async with a_memory_pool(postgres_url) as pool:
        yield pool


class TestReembedding:
    async def test_makes_every_vector_anew_and_goes_on_where_it_was(self, pool: Pool) -> None:
        old = Memory(pool)
        texts = [f"memory {number}" for number in range(70)]
        for tenant in ("acme", "other"):
            await old.remember(
                *[NewMemory(content=text, merge=False) for text in texts], tenant=tenant
            )
        broken = answering(b"{not json")
        async with an_embedder(vectors, broken) as (embedder, _):
            new = Memory(pool, embedder=embedder)
            reembed, stop = new.knowledge.reembed, asyncio.Event()
            await reembed.catch_up(stop)
            unasked = await reembed(ReembedMemories())
            started = await reembed(ReembedMemories(start=True))
            with pytest.raises(OctarmError):
                await reembed.catch_up(stop)
            half = await reembed(ReembedMemories(start=True))
            found = await new.search("memory 69", mode="vector", k=100)
            again = Memory(pool, embedder=embedder).knowledge.reembed
            await again.catch_up(stop)
            done = await again(ReembedMemories())
            after = await new.search("memory 7", tenant="other", k=1)

        assert (unasked.running, unasked.left, unasked.embedder) == (False, 140, "tiny/embed-1")
        assert (started.running, started.total) == (True, 140)
        assert (half.done, half.left) == (32, 108)
        assert set(found.embedders) == {NAME, "tiny/embed-1"}
        assert len(found.hits) == 70
        assert (done.running, done.done, done.left) == (False, 140, 0)
        assert after.embedders == ["tiny/embed-1"]
        assert after.hits[0].memory.embedder == "tiny/embed-1"

    async def test_is_not_over_while_another_replica_has_rows_in_hand(self, pool: Pool) -> None:
        await Memory(pool).remember(*[NewMemory(content=f"memory {n}") for n in range(3)])
        async with an_embedder(vectors) as (embedder, _):
            reembed = Memory(pool, embedder=embedder).knowledge.reembed
            await reembed(ReembedMemories(start=True))
            space = await reembed.space_of(embedder.name, embedder.dimension)
            held, gone = asyncio.Event(), asyncio.Event()

            async def fails(texts: Sequence[str]) -> list[list[float]]:
                held.set()
                await gone.wait()
                raise Unavailable("the embedder went away")

            other = asyncio.create_task(reembed.rows.some(space, fails, every=True, limit=32))
            await held.wait()
            await reembed.catch_up(asyncio.Event())
            meanwhile = await reembed(ReembedMemories())
            gone.set()
            with pytest.raises(Unavailable):
                await other
            await reembed.catch_up(asyncio.Event())
            done = await reembed(ReembedMemories())

        assert (meanwhile.running, meanwhile.left) == (True, 3)
        assert (done.running, done.done, done.left) == (False, 3, 0)

    async def test_an_embedder_that_is_away_stops_nothing(self, pool: Pool) -> None:
        broken = refuses(400)
        async with an_embedder(broken, broken, vectors) as (embedder, _):
            memory = Memory(pool, embedder=embedder)
            (kept,) = await memory.remember("ink of squids")
            by_words = await memory.search("ink", only=MemoryFilter())
            await memory.remember("another")
            await memory.remember("ink that is near")
            degraded = await memory.search("ink")
            await memory.knowledge.reembed.catch_up(asyncio.Event())
            whole = await memory.search("ink")

        assert kept.outcome == "created"
        assert by_words.hits[0].memory.embedder is None
        assert degraded.degraded == ""
        assert {hit.memory.embedder for hit in whole.hits} == {"tiny/embed-1"}

    async def test_a_question_that_cannot_be_embedded_is_answered_by_words(
        self, pool: Pool
    ) -> None:
        async with an_embedder(vectors, refuses(400)) as (embedder, _):
            memory = Memory(pool, embedder=embedder)
            await memory.remember("ink of squids")
            found = await memory.search("ink")
            gone = await Memory(pool).search("ink")

        assert len(found.hits) == len(gone.hits) == 1
        assert found.degraded.startswith("found by words only: tiny/embed-1: ")
        assert gone.degraded == "found by words only: tiny/embed-1 is not configured"
