"""`octarm arms …`: list, get, drain."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from octarm.cli.command import Session, command, sub_app
from octarm.cli.describe import age
from octarm.cli.output import note, pairs, print_lines, state_text, table

ArmId = Annotated[str, typer.Argument(metavar="ARM", help="An arm's id.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = sub_app("See and drain arms.")
    app.add_typer(group, name="arms")
    command(
        group, "list", examples=("octarm arms list", "octarm arms list --needs summarise --json")
    )(list_arms)
    command(group, "get", examples=("octarm arms get llm",))(get)
    command(group, "drain", examples=("octarm arms drain llm",))(drain)


def list_arms(
    session: Session,
    needs: Annotated[
        list[str] | None, typer.Option("--needs", metavar="TAG", help="Only arms with this tag.")
    ] = None,
) -> None:
    """List the arms and their instances."""
    with session.gateway() as gateway:
        arms = gateway.get("/v1/arms", capability=needs)["arms"]
    if session.answer(arms):
        return
    if not arms:
        note("no arms")
        return
    rows = [_row(record) for record in arms]
    table(("arm", "status", ">inst", ">run", ">slots", "version", "*capabilities"), rows)


def get(session: Session, arm_id: ArmId) -> None:
    """Show one arm."""
    with session.gateway() as gateway:
        record = gateway.get(f"/v1/arms/{quote(arm_id, safe='')}")
    if session.answer(record):
        return
    arm = record["arm"]
    pairs(
        [
            ("arm", arm["arm_id"]),
            ("status", state_text(record["status"])),
            ("reason", record.get("reason")),
            ("name", arm.get("name")),
            ("description", arm.get("description")),
            ("version", arm.get("version")),
            ("capabilities", ", ".join(sorted(arm.get("capabilities", [])))),
            ("slots", f"{arm.get('slots')} per instance"),
            ("cost tier", arm.get("cost_tier")),
            ("registered", record.get("registered_at")),
        ]
    )
    rows = [
        (i["instance_id"], state_text(i["status"]), i["running"], i["slots"], age(i["seen_at"]))
        for i in record.get("instances", [])
    ]
    if rows:
        table(("instance", "status", ">run", ">slots", ">seen"), rows)


def drain(
    session: Session,
    arm_id: ArmId,
    key: Annotated[
        str, typer.Option("--key", envvar="OCTARM_ARM_KEY", help="The key it registered with.")
    ] = "",
) -> None:
    """Send an arm no new work; it finishes what it has."""
    with session.gateway() as gateway:
        answer = gateway.post(
            f"/v1/arms/{quote(arm_id, safe='')}/drain", {"key": key} if key else {}
        )
    if not session.answer(answer):
        print_lines(f"{arm_id} drains")


def _row(record: dict[str, Any]) -> tuple[Any, ...]:
    instances = record.get("instances", [])
    return (
        record["arm"]["arm_id"],
        state_text(record["status"]),
        len(instances),
        sum(instance.get("running", 0) for instance in instances),
        sum(instance.get("slots", 0) for instance in instances),
        record["arm"].get("version", ""),
        ", ".join(sorted(record["arm"].get("capabilities", []))),
    )
