"""`octarm memory …`: what the fleet knows: find it, add to it, let it go."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from octarm.cli.command import Session, command
from octarm.cli.output import note, pairs, print_lines, table
from octarm.cli.text import shorten, to_json
from octarm.models.errors import InvalidRequest, Problem, from_problem

PATH: Final = "/v1/memory"
SOURCE: Final = "command-line"
SNIPPET: Final = 300

TagOption = Annotated[
    list[str] | None, typer.Option("--tag", "-t", help="A tag that it bears; may be repeated.")
]


@dataclass(frozen=True, slots=True)
class Which:
    """Which memories are looked at, and how."""

    tag: TagOption = None
    type: Annotated[
        list[str] | None,
        typer.Option("--type", help="task, decision, fact or artifact; may be repeated."),
    ] = None
    mode: Annotated[str, typer.Option("--mode", help="hybrid, or only one of: text, vector.")] = (
        "hybrid"
    )
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="Most memories.")] = 10


@dataclass(frozen=True, slots=True)
class About:
    """What is said of something new."""

    tag: TagOption = None
    type: Annotated[str, typer.Option("--type", help="task, decision, fact or artifact.")] = "fact"
    confidence: Annotated[
        float, typer.Option("--confidence", min=0, max=1, help="How sure it is.")
    ] = 1.0
    source: Annotated[str, typer.Option("--source", help="Who says so.")] = SOURCE
    supersedes: Annotated[
        str, typer.Option("--supersedes", metavar="ID", help="The memory that it replaces.")
    ] = ""


def register(group: typer.Typer) -> None:
    """Add the commands."""
    command(
        group,
        "search",
        options=Which,
        examples=(
            'octarm memory search "how long are dead letters kept?"',
            'octarm memory search "retry policy" --tag collection:docs -n 3 --json',
        ),
    )(search)
    command(
        group,
        "remember",
        options=About,
        examples=(
            'octarm memory remember "The staging database moves on 1 March." --tag staging',
            "git log -1 --format=%B | octarm memory remember - --type decision",
        ),
    )(remember)
    command(group, "forget", examples=("octarm memory forget mem_01…",))(forget)
    command(group, "stats", examples=("octarm memory stats", "octarm memory stats --json"))(stats)


def search(
    session: Session,
    query: Annotated[str, typer.Argument(metavar="TEXT", help="A question, or words.")],
    options: Which,
) -> None:
    """Find what fits best, with the reasons of its rank."""
    only = {"tags": options.tag or [], "entity_types": options.type or []}
    body = {"query": query, "k": options.limit, "mode": options.mode, "only": only}
    with session.gateway() as gateway:
        found = gateway.post(f"{PATH}/search", body)
    if session.answer(found):
        return
    if found.get("degraded"):
        note(f"degraded: {found['degraded']}", "yellow")
    if not found["hits"]:
        note("nothing in memory fits")
        return
    rows = [
        (
            f"{hit['score']:.4f}",
            _reasons(hit["explanation"]),
            hit["memory"]["memory_id"],
            shorten(hit["memory"]["content"], SNIPPET),
        )
        for hit in found["hits"]
    ]
    table((">score", "text/vector", "memory", "*content"), rows)


def remember(
    session: Session,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to remember; - is stdin.")],
    options: About,
) -> None:
    """Keep a piece of knowledge. What looks like a secret or personal data is taken out."""
    content = sys.stdin.read().strip() if text == "-" else text
    memory: dict[str, Any] = {
        "content": content,
        "entity_type": options.type,
        "confidence": options.confidence,
        "tags": options.tag or [],
    }
    if options.supersedes:
        memory["supersedes"] = options.supersedes
    with session.gateway() as gateway:
        body = {"source": options.source, "memories": [memory]}
        (answer,) = gateway.post(f"{PATH}/remember", body)["answers"]
    if answer.get("problem"):
        raise from_problem(Problem.model_validate(answer["problem"]))
    if session.answer(answer):
        return
    print_lines(answer["memory_id"])
    if answer["outcome"] != "created":
        note(f"{answer['outcome']}{': ' + answer['into'] if answer.get('into') else ''}")
    if answer.get("redactions"):
        note(f"{answer['redactions']} secrets or personal data were taken out", "yellow")


def show(session: Session, memory_id: str) -> None:
    """Show one memory and what it replaced."""
    with session.gateway() as gateway:
        found = gateway.get(f"{PATH}/semantic/{quote(memory_id, safe='')}", history="true")
    if session.answer(found):
        return
    memory = found["memory"]
    pairs(
        [
            ("memory", memory["memory_id"]),
            ("type", memory["entity_type"]),
            ("tags", ", ".join(memory["tags"])),
            ("source", memory["source"]),
            ("found", memory["timestamp"]),
            ("confidence", memory["confidence"]),
            ("embedder", memory.get("embedder")),
            ("replaced by", memory.get("superseded_by")),
            ("merged", len(memory.get("merged") or []) or None),
        ]
    )
    print_lines(f"\n{memory['content']}")
    for name in ("metadata", "provenance"):
        if memory.get(name):
            print_lines(f"\n{name}: {to_json(memory[name], indent=2)}")
    for older in found.get("history") or []:
        print_lines(f"\nbefore: {older['memory_id']} {older['timestamp']}\n{older['content']}")


def forget(
    session: Session,
    memory_id: Annotated[str, typer.Argument(metavar="ID", help="A memory's id.")],
) -> None:
    """Delete one memory with its history. Doing it twice is doing it once."""
    if not memory_id.startswith("mem_"):
        raise InvalidRequest(
            f"{memory_id} is not the id of a memory", "It begins with mem_; see memory search."
        )
    with session.gateway() as gateway:
        gone = gateway.delete(f"{PATH}/semantic/{quote(memory_id, safe='')}")
    if not session.answer(gone):
        print_lines(f"{gone['deleted']} forgotten" if gone["deleted"] else "it was gone already")


def stats(session: Session) -> None:
    """Count what the tenant's memory holds."""
    with session.gateway() as gateway:
        counted = gateway.get(f"{PATH}/stats")
    if session.answer(counted):
        return
    pairs(
        [
            ("memories", str(counted["memories"])),
            ("by type", _counts(counted["by_type"])),
            ("by source", _counts(counted["by_source"])),
            ("by tag", _counts(counted["by_tag"])),
            ("by embedder", _counts(counted["by_embedder"])),
            ("without vector", str(counted["without_vector"])),
            ("history", str(counted["history"])),
            ("episodes", str(counted["episodes"])),
            ("oldest", counted.get("oldest")),
            ("newest", counted.get("newest")),
        ]
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _reasons(explanation: dict[str, Any]) -> str:
    """Say by which list it was found, and where it stood there."""
    ranks = (explanation.get("text_rank"), explanation.get("vector_rank"))
    return "/".join("-" if rank is None else str(rank) for rank in ranks)
