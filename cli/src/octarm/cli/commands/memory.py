"""`octarm memory …` and `octarm queue`: what the fleet remembers, and what waits."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from octarm.cli.command import Session, command, sub_app
from octarm.cli.commands import erasure, ingest, knowledge, reembedding
from octarm.cli.commands.shed import shed_now, warn_of_shedding
from octarm.cli.describe import age
from octarm.cli.output import note, pairs, print_lines, table
from octarm.cli.text import shorten, to_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = sub_app("What the fleet remembers and knows: find it, add to it, let it go.")
    app.add_typer(group, name="memory")
    command(
        group,
        "episodes",
        examples=(
            "octarm memory episodes --arm llm",
            "octarm memory episodes --task tsk_01… --json",
        ),
    )(episodes)
    command(group, "show", examples=("octarm memory show mem_01…", "octarm memory show epi_01…"))(
        show
    )
    knowledge.register(group)
    ingest.register(group)
    erasure.register(group)
    reembedding.register(group)
    command(app, "queue", examples=("octarm queue", "octarm queue --json"))(queue)


def episodes(
    session: Session,
    arm: Annotated[str, typer.Option("--arm", help="Only of this arm.")] = "",
    task: Annotated[str, typer.Option("--task", help="Only of this task.")] = "",
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=500, help="Most episodes.")
    ] = 50,
) -> None:
    """List episodes, newest first."""
    with session.gateway() as gateway:
        found = gateway.get("/v1/memory/episodes", arm=arm, task=task, limit=limit)["episodes"]
    if session.answer(found):
        return
    if not found:
        note("no episodes")
        return
    rows = [
        (
            episode["episode_id"],
            episode.get("arm_id") or "",
            episode["task_id"],
            age(episode.get("created_at")),
            shorten(_brief(episode.get("outcomes")), 200),
        )
        for episode in found
    ]
    table(("episode", "arm", "task", ">age", "*outcome"), rows)


def show(
    session: Session,
    memory_id: Annotated[str, typer.Argument(metavar="ID", help="Of a memory or an episode.")],
) -> None:
    """Show one memory, or one episode."""
    if memory_id.startswith("mem_"):
        knowledge.show(session, memory_id)
    else:
        _show_episode(session, memory_id)


def _show_episode(session: Session, episode_id: str) -> None:
    with session.gateway() as gateway:
        found = gateway.get(f"/v1/memory/episodes/{quote(episode_id, safe='')}")
    if session.answer(found):
        return
    episode = found.get("episode", found)
    pairs(
        [
            ("episode", episode["episode_id"]),
            ("task", episode["task_id"]),
            ("arm", episode.get("arm_id")),
            ("created", episode.get("created_at")),
            ("from", found.get("source")),
        ]
    )
    for name in ("observations", "actions", "outcomes"):
        if episode.get(name):
            print_lines(f"{name}:\n{to_json(episode[name], indent=2)}")


def queue(
    session: Session,
    shard: Annotated[int, typer.Option("--shard", min=0, max=63, help="Which shard.")] = 0,
) -> None:
    """Show what waits to be placed, and why."""
    with session.gateway() as gateway:
        view = gateway.get("/v1/queue", shard=shard)
        shed = shed_now(gateway)
    if session.answer({**view, "shedding": shed}):
        return
    warn_of_shedding(shed)
    pairs(
        [
            ("queued", str(view["queued"])),
            ("oldest waits", f"{view['oldest_wait_s']:.1f} s"),
            ("policy", view.get("policy")),
            ("leader", view.get("leader")),
            ("by tier", _counts(view.get("by_tier"))),
            ("by tenant", _counts(view.get("by_tenant"))),
            ("by capability", _counts(view.get("by_capability"))),
            ("placed", f"{view.get('placed_per_s', 0.0):.1f} a second"),
            ("in flight", _counts(view.get("in_flight"))),
        ]
    )
    for reason, count in (view.get("blocked") or {}).items():
        print_lines(f"  {count} wait: {reason}")


def _counts(counts: dict[str, int] | None) -> str:
    return ", ".join(f"{name} {count}" for name, count in (counts or {}).items())


def _brief(outcomes: Any) -> str:
    return to_json(outcomes[-1]) if outcomes else ""
