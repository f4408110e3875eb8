"""`octarm policy …`: save, list, get, validate, simulate, shadow, deploy, rollback, delete."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.text import Text

from octarm.cli.command import Session, command, sub_app
from octarm.cli.commands.shadows import show_differences
from octarm.cli.commands.simulation import simulate
from octarm.cli.describe import age
from octarm.cli.output import note, print_lines, stderr, table
from octarm.cli.sources import PATH, read_source
from octarm.cli.text import clean
from octarm.models.errors import FieldError, InvalidRequest

Ref = Annotated[
    str, typer.Argument(metavar="REF", help="A digest, eight digits of it or more, or a name.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A .star or .yaml file.")]
SHOWN_DIGITS: Final = 12
_STYLES: Final = {"live": "green", "shadow": "cyan", "tripped": "red"}


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = sub_app("Write, try and deploy the policies that place tasks.")
    app.add_typer(group, name="policy")
    save_examples = (
        "octarm policy save cheapest.star",
        'octarm policy save rules.yaml --name night --note "batch waits"',
    )
    command(group, "save", examples=save_examples)(save)
    command(group, "list", examples=("octarm policy list", "octarm policy list --name cheapest"))(
        list_policies
    )
    get_examples = ("octarm policy get cheapest", "octarm policy get 52b17f65 > old.star")
    command(group, "get", examples=get_examples)(get)
    command(group, "validate", examples=("octarm policy validate cheapest.star",))(validate)
    simulate_examples = (
        "octarm policy simulate cheapest --since 1h",
        "octarm policy simulate cheapest.star --load libraries/policies/loads/mixed_costs.toml",
        "octarm policy simulate cheapest fair_share --since 2d --plot policies.png",
    )
    command(group, "simulate", examples=simulate_examples)(simulate)
    shadow_examples = (
        "octarm policy shadow cheapest",
        "octarm policy shadow",
        "octarm policy shadow --off",
    )
    command(group, "shadow", examples=shadow_examples)(shadow)
    command(group, "deploy", examples=("octarm policy deploy cheapest",))(deploy)
    command(group, "rollback", examples=("octarm policy rollback",))(rollback)
    command(group, "delete", examples=("octarm policy delete 52b17f65",))(delete)


def save(
    session: Session,
    file: File,
    name: Annotated[str, typer.Option("--name", help="Its name; by default the file's.")] = "",
    remark: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
) -> None:
    """Keep a policy that works; the same source again is the same version.

    A source that fails on the samples is not kept.
    """
    source, kind = read_source(file)
    called = name or file.stem.replace("_", "-").lower()
    body = {"name": called, "kind": kind, "source": source, "note": remark}
    try:
        with session.gateway() as gateway:
            saved = gateway.post(PATH, body)
    except InvalidRequest as error:
        if error.code == "INVALID_POLICY" and error.errors and not session.json:
            raise _told(file, error, error.errors) from None
        raise
    if session.answer(saved):
        return
    _show_problems(file, saved["problems"])
    policy = saved["policy"]
    what = "saved" if saved["created"] else "there already"
    print_lines(f"{policy['name']}\t{policy['digest']}\t{what}")


def list_policies(
    session: Session,
    name: Annotated[str, typer.Option("--name", help="Only versions of this name.")] = "",
) -> None:
    """List the versions, newest first, and which one decides."""
    with session.gateway() as gateway:
        found = gateway.get(PATH, name=name)
    if session.answer(found):
        return
    rows = [
        (
            it["name"],
            it["digest"][:SHOWN_DIGITS],
            Text(it["state"], style=_STYLES.get(it["state"], "")),
            it["kind"],
            it["size_bytes"],
            age(it["created_at"]),
            it["created_by"],
            it["note"],
        )
        for it in found["policies"]
    ]
    if rows:
        table(("policy", "version", "state", "kind", ">bytes", ">age", "by", "*note"), rows)
    else:
        note("no policies")
    note(_decides(found["deployments"][0] if found["deployments"] else None))


def get(session: Session, ref: Ref) -> None:
    """Print a version's source; what is known of it goes to stderr."""
    with session.gateway() as gateway:
        version = gateway.get(_path(ref))
    if session.answer(version):
        return
    for name in ("name", "digest", "state", "kind", "created_at", "created_by", "note"):
        if version[name]:
            note(f"{name.replace('_', ' ')}: {version[name]}", "dim")
    print_lines(version["source"])


def validate(session: Session, file: File) -> None:
    """Say what is wrong with a file, after trying it on samples. Keeps nothing.

    Ends with exit code 3 when it could not be saved.
    """
    source, kind = read_source(file)
    with session.gateway() as gateway:
        found = gateway.post(f"{PATH}/validate", {"kind": kind, "source": source})
    wrong = [it for it in found["problems"] if it["severity"] == "error"]
    if not session.answer(found):
        _show_problems(file, found["problems"])
        if not wrong:
            print_lines(f"{file} is well\t{found['digest']}")
    if wrong:
        raise typer.Exit(3)


def shadow(
    session: Session,
    ref: Annotated[str, typer.Argument(metavar="[REF]", help="As for deploy.")] = "",
    off: Annotated[bool, typer.Option("--off", help="End the shadow.")] = False,
    shard: Annotated[int, typer.Option("--shard", min=0, max=63, help="Which to show.")] = 0,
) -> None:
    """Ask a version beside the one that decides; without a name, show how they have differed."""
    if ref and off:
        raise InvalidRequest("name a policy, or say --off", "See 'octarm policy list'.")
    if not (ref or off):
        show_differences(session, shard)
        return
    with session.gateway() as gateway:
        answer = gateway.post(f"{PATH}/end-shadow" if off else f"{_path(ref)}/shadow")
    if not session.answer(answer):
        print_lines("no shadow" if off else f"{ref} shadows\t{answer['shadow']}")


def deploy(session: Session, ref: Ref) -> None:
    """Let a version decide from the next cycle on; nothing waits or is lost meanwhile."""
    with session.gateway() as gateway:
        answer = gateway.post(f"{_path(ref)}/deploy")
    if not session.answer(answer):
        print_lines(_decides(answer["deployment"]))


def rollback(session: Session) -> None:
    """Let the version before decide again."""
    with session.gateway() as gateway:
        answer = gateway.post_once(f"{PATH}/rollback")
    if not session.answer(answer):
        print_lines(_decides(answer["deployment"]))


def delete(session: Session, ref: Ref) -> None:
    """Forget a version that neither decides nor shadows; again is the same."""
    with session.gateway() as gateway:
        answer = gateway.delete(_path(ref))
    if not session.answer(answer):
        print_lines(f"{ref} is gone" if answer["digest"] else f"there is no {ref}")


def _path(ref: str) -> str:
    return f"{PATH}/{quote(ref, safe='')}"


def _decides(deployment: dict[str, Any] | None) -> str:
    if deployment is None or deployment["digest"] is None:
        return "the scheduler's own policy decides"
    return f"{deployment['digest']} decides"


def _show_problems(file: Path, problems: list[dict[str, Any]]) -> None:
    lines = Counter((it["severity"], it["line"]) for it in problems)
    for it in problems:
        # A line that fails on one sample fails on most: once tells its author enough.
        more = lines.pop((it["severity"], it["line"]), 0) - 1
        if more < 0 and it["line"]:
            continue
        _say(file, it["severity"], it["line"], it["message"])
        if more and it["line"]:
            note(f"    and {more} more of this line; --json has them", "dim")
        if it["hint"]:
            note(f"    hint: {it['hint']}", "dim")


def _say(file: Path, severity: str, line: int | None, message: str) -> None:
    """Write a problem as compilers do; a traceback keeps its lines."""
    where = f"{file}:{line}" if line else str(file)
    style = "bold red" if severity == "error" else "yellow"
    head = Text(clean(f"{where}: {severity}: "), style=style)
    stderr().print(head + Text(clean(message.strip(), lines=True)), soft_wrap=True)


def _told(file: Path, error: InvalidRequest, errors: list[FieldError]) -> InvalidRequest:
    _show_problems(
        file,
        [
            {"severity": "error", "line": int(line) if line.isdigit() else None}
            | {"message": it.message, "hint": ""}
            for it in errors
            for line in [it.field.rpartition(".")[2]]
        ],
    )
    count = f"{len(errors)} error{'' if len(errors) == 1 else 's'}"
    return InvalidRequest(f"{file} was not saved: {count}", error.recovery_hint, error.code)
