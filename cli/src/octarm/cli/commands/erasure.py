"""`octarm memory erase`: all that memory has about somebody, with a receipt."""

import sys
import time
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from octarm.cli.command import Session, command
from octarm.cli.http import Gateway
from octarm.cli.output import note, pairs
from octarm.models.errors import InvalidRequest

PATH: Final = "/v1/memory/erasures"
LOOK_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Whom:
    """Whom or what it is about."""

    tag: Annotated[
        str, typer.Option("--tag", "-t", help="All that bears this tag, such as person:ann.")
    ] = ""
    task: Annotated[str, typer.Option("--task", metavar="ID", help="All about this task.")] = ""
    everything: Annotated[
        bool, typer.Option("--everything", help="All that the tenant remembers.")
    ] = False
    receipt: Annotated[
        str, typer.Option("--receipt", metavar="ID", help="Only show the receipt of an erasure.")
    ] = ""
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False

    def subject(self) -> dict[str, Any]:
        """What the gateway is told.

        Raises:
            InvalidRequest: nothing is named, or several.
        """
        if bool(self.tag) + bool(self.task) + self.everything + bool(self.receipt) != 1:
            raise InvalidRequest(
                "say whom it is about: one of --tag, --task and --everything",
                "octarm memory stats shows the tags; --receipt shows what was erased.",
            )
        if self.everything:
            return {"everything": True}
        return {"tag": self.tag} if self.tag else {"task_id": self.task}


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(
        group,
        "erase",
        options=Whom,
        examples=(
            "octarm memory erase --tag person:ann",
            "octarm memory erase --tag collection:docs --yes",
            "octarm memory erase --receipt era_0f… --json",
        ),
    )(erase)


def erase(session: Session, options: Whom) -> None:
    """Erase all that memory has about a tag, a task or the tenant, and what was derived from it.

    It cannot be undone. What is under way goes on when this is interrupted; asking again shows it.
    """
    subject = options.subject()
    if not options.receipt:
        _ask(subject, options, quiet=session.json)
    with session.gateway() as gateway:
        if options.receipt:
            found = gateway.get(f"{PATH}/{options.receipt}")
        else:
            found = _done(gateway, gateway.post(PATH, subject))
    if session.answer(found):
        return
    pairs(
        [
            ("receipt", found["erasure_id"]),
            ("about a", found["kind"]),
            ("state", found["state"]),
            ("begun", found["begun_at"]),
            ("finished", found.get("finished_at")),
            *((f"erased {store}", f"{count:,}") for store, count in found["counts"].items()),
            ("subject SHA-256", found["subject_sha256"]),
            ("digest", found.get("digest")),
        ]
    )
    if not found["counts"] and found["state"] == "done":
        note("there was nothing")


def _ask(subject: dict[str, Any], options: Whom, *, quiet: bool) -> None:
    if options.yes:
        return
    what = "everything" if options.everything else next(iter(subject.values()))
    if quiet or not sys.stdin.isatty():
        raise InvalidRequest("erasing cannot be undone", "Say --yes where nobody can be asked.")
    typer.confirm(f"erase all about {what}?", abort=True, err=True)


def _done(gateway: Gateway, found: dict[str, Any]) -> dict[str, Any]:
    while found["state"] == "running":
        time.sleep(LOOK_EVERY_S)
        found = gateway.get(f"{PATH}/{found['erasure_id']}")
    return found
