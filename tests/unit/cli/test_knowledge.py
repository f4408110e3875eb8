"""`octarm memory …` against a gateway that answers from memory."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

from tests.support.cli import Cli
from tests.support.fake_gateway import FakeGateway, Reply, Request, a_problem

MEMORY_ID = "mem_01jd5x2b3c4d5e6f7g8h9jkmnp"
MEMORY: dict[str, Any] = {
    "memory_id": MEMORY_ID,
    "entity_type": "fact",
    "content": "Dead letters stay for 30 days.\x1b[2J",
    "metadata": {"document": "a.md"},
    "source": "ingest",
    "timestamp": "2026-11-21T12:00:00Z",
    "confidence": 1.0,
    "tags": ["docs"],
}
HIT = {
    "memory": MEMORY,
    "score": 0.0325,
    "explanation": {"text_rank": 2, "vector_rank": None, "text_part": 0.016},
}


class TestSearch:
    def test_shows_what_was_found_and_why(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/memory/search", Reply(body={"hits": [HIT], "degraded": "no vectors"}))

        ran = cli("memory", "search", "how long?", "--tag", "docs", "-n", "3", "--url", gateway.url)

        assert ran.code == 0
        assert f"0.0325\t2/-\t{MEMORY_ID}\tDead letters stay for 30 days.\\x1b[2J" in ran.out
        assert "no vectors" in ran.err
        (sent,) = gateway.sent("POST /v1/memory/search")
        assert sent.body == {
            "query": "how long?",
            "k": 3,
            "mode": "hybrid",
            "only": {"tags": ["docs"], "entity_types": []},
        }

    def test_says_that_nothing_fits(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/memory/search", Reply(body={"hits": []}))

        ran = cli("memory", "search", "x", "--url", gateway.url)

        assert (ran.code, ran.out) == (0, "")
        assert "nothing in memory fits" in ran.err


class TestRemember:
    def test_keeps_a_text_from_stdin(self, cli: Cli, gateway: FakeGateway) -> None:
        answer = {"memory_id": MEMORY_ID, "outcome": "created", "redactions": 2}
        gateway.on("POST /v1/memory/remember", Reply(body={"answers": [answer]}))

        ran = cli("memory", "remember", "-", "-t", "a", "--url", gateway.url, stdin=" said \n")

        assert (ran.code, ran.out) == (0, f"{MEMORY_ID}\n")
        assert "2 secrets or personal data were taken out" in ran.err
        (sent,) = gateway.sent("POST /v1/memory/remember")
        assert sent.body["memories"][0]["content"] == "said"
        assert sent.body["source"] == "command-line"

    def test_says_why_it_was_refused(self, cli: Cli, gateway: FakeGateway) -> None:
        problem = {
            "title": "Conflict",
            "status": 409,
            "code": "ALREADY_SUPERSEDED",
            "category": "conflict",
            "detail": "it is history",
        }
        gateway.on("POST /v1/memory/remember", Reply(body={"answers": [{"problem": problem}]}))

        ran = cli("memory", "remember", "x", "--supersedes", MEMORY_ID, "--url", gateway.url)

        assert (ran.code, "it is history" in ran.err) == (1, True)


class TestShowForgetStats:
    def test_shows_a_memory_with_its_history(self, cli: Cli, gateway: FakeGateway) -> None:
        older = {**MEMORY, "content": "For 7 days."}
        path = f"GET /v1/memory/semantic/{MEMORY_ID}"
        gateway.on(path, Reply(body={"memory": MEMORY, "history": [older]}))

        ran = cli("memory", "show", MEMORY_ID, "--url", gateway.url)

        assert "Dead letters stay for 30 days.\\x1b[2J" in ran.out
        assert "For 7 days." in ran.out
        assert '"document": "a.md"' in ran.out

    def test_forgets_once_and_again(self, cli: Cli, gateway: FakeGateway) -> None:
        path = f"DELETE /v1/memory/semantic/{MEMORY_ID}"
        gateway.on(path, Reply(body={"deleted": 1}), Reply(body={"deleted": 0}))

        first, second = (cli("memory", "forget", MEMORY_ID, "--url", gateway.url) for _ in "ab")

        assert (first.out, second.out) == ("1 forgotten\n", "it was gone already\n")
        assert cli("memory", "forget", "epi_x", "--url", gateway.url).code == 3

    def test_counts(self, cli: Cli, gateway: FakeGateway) -> None:
        counted = {
            "memories": 1200,
            "by_type": {"fact": 1200},
            "by_source": {},
            "by_tag": {"docs": 3},
            "by_embedder": {},
            "without_vector": 0,
            "history": 2,
            "episodes": 5,
            "oldest": None,
            "newest": None,
        }
        gateway.on("GET /v1/memory/stats", Reply(body=counted))

        assert "by type         fact 1,200" in cli("memory", "stats", "--url", gateway.url).out
        assert cli("memory", "stats", "--json", "--url", gateway.url).json == counted


class TestErase:
    receipt: ClassVar[dict[str, Any]] = {
        "erasure_id": f"era_{'0' * 32}",
        "kind": "tag",
        "state": "running",
        "subject_sha256": "0" * 64,
        "begun_at": "2026-11-21T12:00:00Z",
        "counts": {},
    }

    def test_waits_for_the_end_and_shows_the_receipt(self, cli: Cli, gateway: FakeGateway) -> None:
        done = {**self.receipt, "state": "done", "counts": {"episodes": 1200}, "digest": "d" * 64}
        gateway.on("POST /v1/memory/erasures", Reply(202, body=self.receipt))
        path = f"GET /v1/memory/erasures/{self.receipt['erasure_id']}"
        gateway.on(path, Reply(body=self.receipt), Reply(body=done))

        ran = cli("memory", "erase", "--tag", "person:ann", "--yes", "--url", gateway.url)
        shown = cli(
            *("memory", "erase", "--receipt", self.receipt["erasure_id"], "--json"),
            *("--url", gateway.url),
        )

        assert (ran.code, "erased episodes  1,200" in ran.out) == (0, True)
        assert gateway.sent("POST /v1/memory/erasures")[0].body == {"tag": "person:ann"}
        assert shown.json == done

    def test_erases_nothing_unasked(self, cli: Cli, gateway: FakeGateway) -> None:
        for given in ((), ("--tag", "a", "--everything"), ("--everything",), ("--task", "t")):
            assert cli("memory", "erase", *given, "--url", gateway.url).code == 3
        assert gateway.requests == []


class TestReembed:
    begun: ClassVar[dict[str, Any]] = {
        "embedder": "wordllama-256",
        "dimension": 256,
        "running": True,
        "total": 1200,
        "done": 0,
        "left": 1200,
    }

    def test_begins_waits_for_the_end_and_shows_it(self, cli: Cli, gateway: FakeGateway) -> None:
        half = {**self.begun, "done": 700, "left": 500}
        done = {**self.begun, "running": False, "done": 1200, "left": 0}
        gateway.on("POST /v1/memory/reembedding", Reply(202, body=self.begun))
        gateway.on("GET /v1/memory/reembedding", Reply(body=half), Reply(body=done))

        ran = cli("memory", "reembed", "--url", gateway.url)

        assert (ran.code, "done                1,200 of 1,200" in ran.out) == (0, True)
        assert len(gateway.sent("GET /v1/memory/reembedding")) == 2

    def test_only_begins_or_only_looks(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/memory/reembedding", Reply(202, body=self.begun))
        gateway.on("GET /v1/memory/reembedding", Reply(body=self.begun))

        detached = cli("memory", "reembed", "--detach", "--json", "--url", gateway.url)
        looked = cli("memory", "reembed", "--status", "--json", "--url", gateway.url)

        assert detached.json == looked.json == self.begun
        assert len(gateway.sent("POST /v1/memory/reembedding")) == 1


class TestIngest:
    def test_takes_in_page_by_page_and_batch_by_batch(
        self, cli: Cli, gateway: FakeGateway, tmp_path: Path
    ) -> None:
        folder = tmp_path / "My Docs"
        folder.mkdir()
        (folder / "a.md").write_text("# A\n\n" + "A sentence about squids. " * 1_000)
        (folder / "bad.txt").write_bytes(b"\xff\xfe")
        stale = {
            "memory_id": MEMORY_ID,
            "metadata": {
                "document": "a.md",
                "document_key": hashlib.sha256(b"a.md").hexdigest(),
                "document_version": "old",
                "pieces": 1,
            },
        }
        gateway.on("GET /v1/memory/semantic", Reply(body={"memories": [stale], "after": None}))
        gateway.on("POST /v1/memory/remember", remembered)
        gateway.on(f"DELETE /v1/memory/semantic/{MEMORY_ID}", Reply(body={"deleted": 1}))

        ran = cli("memory", "ingest", str(folder), "--size", "100", "--url", gateway.url)

        assert ran.code == 1
        assert "1/2 changed a.md: " in ran.err
        assert "2/2 failed bad.txt: not UTF-8" in ran.err
        assert "collection my-docs, added 0, changed 1" in ran.out
        sent = gateway.sent("POST /v1/memory/remember")
        assert len(sent) > 1
        assert all(len(one.body["memories"]) <= 100 for one in sent)
        (listed,) = gateway.sent("GET /v1/memory/semantic")
        assert listed.query["tag"] == ["collection:my-docs"]
        assert len(gateway.sent(f"DELETE /v1/memory/semantic/{MEMORY_ID}")) == 1

    def test_json_is_one_document(self, cli: Cli, gateway: FakeGateway, tmp_path: Path) -> None:
        (tmp_path / "a.md").write_text("text")
        gateway.on("GET /v1/memory/semantic", Reply(body={"memories": [], "after": None}))
        gateway.on("POST /v1/memory/remember", remembered)

        ran = cli(
            *("memory", "ingest", str(tmp_path), "--collection", "docs", "--json"),
            *("--url", gateway.url),
        )

        assert (ran.code, ran.err) == (0, "")
        assert (ran.json["added"], ran.json["pieces_added"], ran.json["failures"]) == (1, 1, [])

    def test_refuses_what_cannot_be_a_collection(self, cli: Cli, tmp_path: Path) -> None:
        for given in (("--collection", "A b"), ("--tag", "ü"), ("--collection", "x" * 60)):
            assert cli("memory", "ingest", str(tmp_path), *given).code == 3
        assert cli("memory", "ingest", str(tmp_path), "--overlap", "900").code == 3

    def test_stops_where_the_gateway_refuses_us(
        self, cli: Cli, gateway: FakeGateway, tmp_path: Path
    ) -> None:
        gateway.on(
            "GET /v1/memory/semantic", a_problem(401, "INVALID_TOKEN", "authentication", "no")
        )
        (tmp_path / "a.md").write_text("text")

        ran = cli("memory", "ingest", str(tmp_path), "--collection", "a", "--url", gateway.url)

        assert ran.code == 2


def remembered(request: Request) -> Reply:
    answers = [
        {"memory_id": one["memory_id"], "outcome": "created"} for one in request.body["memories"]
    ]
    return Reply(body={"answers": answers})
