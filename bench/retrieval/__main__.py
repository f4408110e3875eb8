"""Measure retrieval: `python -m bench.retrieval` takes in `docs` and asks all questions.

It starts a stack of its own, or uses the gateway of `--url`; which embedder it has follows from
OCTARM_EMBEDDINGS_MODEL, as for any stack. Each question is asked in three
modes: words only, vectors only, and both (hybrid). A piece answers a question when it holds at
least half of the passage that answers it. MRR is the mean of 1 / rank of the first such piece
among ten; recall@k the share of questions that have one among the first k.
"""

import argparse
import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.retrieval.questions import CORPUS, HALVES, ROOT, Question, questions
from octarm.cli.http import Gateway
from octarm.cli.ingest.pieces import Cut
from octarm.cli.ingest.run import Ingest
from octarm.cli.ingest.shelf import Shelf
from octarm.cli.profiles import Target
from octarm.cli.stack.supervisor import running_stack

MODES: Final = ("text", "vector", "hybrid")
DEPTH: Final = 10
COLLECTION: Final = "bench-docs"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one mode came to, over all questions."""

    mrr: float
    recall_at_1: float
    recall_at_3: float
    recall_at_5: float
    recall_at_10: float


def figures_of(ranks: list[int | None]) -> Figures:
    """Sum up the rank of the first right piece for each question; None is none among ten."""
    count = len(ranks)

    def recall(k: int) -> float:
        return sum(rank is not None and rank <= k for rank in ranks) / count

    mrr = sum(1 / rank for rank in ranks if rank is not None) / count
    return Figures(mrr, recall(1), recall(3), recall(5), recall(10))


def answers(hit: dict[str, Any], question: Question, span: tuple[int, int]) -> bool:
    """Tell whether a piece holds at least half of the passage."""
    place = hit["memory"]["metadata"]
    if f"{CORPUS}/{place['document']}" != question.document:
        return False
    start, end = max(place["start"], span[0]), min(place["end"], span[1])
    return bool(2 * (end - start) >= span[1] - span[0])


def rank_of(gateway: Gateway, question: Question, mode: str) -> int | None:
    """Give the rank of the first piece that answers, from 1."""
    span = question.span_in((ROOT / question.document).read_text(encoding="utf-8"))
    body = {
        "query": question.question,
        "k": DEPTH,
        "mode": mode,
        "only": {"tags": [Cut(COLLECTION).tag]},
    }
    hits = gateway.post("/v1/memory/search", body)["hits"]
    return next((n for n, hit in enumerate(hits, 1) if answers(hit, question, span)), None)


def measure(gateway: Gateway, *, size: int, wait_s: float) -> dict[str, Any]:
    """Take the documents in, wait until Postgres has counted their words, and ask."""
    cut = Cut(COLLECTION, size=size)
    report = Ingest(ROOT / CORPUS, Shelf(gateway, cut.tag), cut)()
    if report.count("failed"):
        raise SystemExit(f"not all documents were taken in: {report}")
    time.sleep(wait_s)
    ranks = {
        half: {mode: [rank_of(gateway, one, mode) for one in questions(half)] for mode in MODES}
        for half in HALVES
    }
    stats = gateway.get("/v1/memory/stats")
    return {
        "documents": len(report.outcomes),
        "pieces": sum(one.pieces for one in report.outcomes),
        "embedder": ", ".join(stats["by_embedder"]),
        "ranks": ranks,
    }


def printed(found: dict[str, Any]) -> str:
    """Give the figures as a table of Markdown."""
    lines = [
        f"{found['documents']} documents in {found['pieces']} pieces, embedder {found['embedder']}",
        "",
        "| questions | mode | MRR@10 | recall@1 | recall@3 | recall@5 | recall@10 |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for half, ranks in found["ranks"].items():
        for mode in MODES:
            figures = figures_of(ranks[mode])
            values = " | ".join(f"{getattr(figures, name):.3f}" for name in Figures.__slots__)
            lines.append(f"| {half}, {len(ranks[mode])} | {mode} | {values} |")
    return "\n".join(lines)


async def on_a_stack(folder: Path, size: int, wait_s: float) -> dict[str, Any]:
    """Measure on a stack that is started for this."""
    async with running_stack(folder / "data", arms=[]) as stack:
        with Gateway(Target(stack.urls.gateway, "", "bench")) as gateway:
            return await asyncio.to_thread(measure, gateway, size=size, wait_s=wait_s)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.retrieval", description=__doc__)
    parser.add_argument("--url", help="a gateway that runs")
    parser.add_argument("--size", type=int, default=Cut("").size, help="characters of a piece")
    help_wait = "seconds until the frequencies of words are known: autovacuum, and a minute"
    parser.add_argument("--wait", type=float, default=150.0, help=help_wait)
    parser.add_argument("--verbose", action="store_true", help="also the rank of every question")
    given = parser.parse_args()
    if given.url:
        with Gateway(Target(given.url, "", "--url")) as gateway:
            found = measure(gateway, size=given.size, wait_s=given.wait)
    else:
        with tempfile.TemporaryDirectory(prefix="octarm-retrieval-") as folder:
            # Postgres may run as another user, who must be able to pass through.
            Path(folder).chmod(0o755)
            found = asyncio.run(on_a_stack(Path(folder), given.size, given.wait))
    print(printed(found))
    if given.verbose:
        for half in HALVES:
            for place, one in enumerate(questions(half)):
                ranks = {mode: found["ranks"][half][mode][place] for mode in MODES}
                print(json.dumps(ranks), one.question)


if __name__ == "__main__":
    main()
