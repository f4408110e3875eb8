"""What every command shares: its options, its JSON mode, its exit code, its examples."""

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any

import typer

from octarm.cli.http import Gateway
from octarm.cli.output import print_json, show_error, show_waiting
from octarm.cli.profiles import Target, resolve
from octarm.models.errors import OctarmError

WORTH_SAYING_S = 1.0
PANEL = "Connection and output"
JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON on stdout, and nothing else.", rich_help_panel=PANEL)
]
UrlOption = Annotated[
    str,
    typer.Option(
        "--url", metavar="URL", help="The gateway (or OCTARM_URL).", rich_help_panel=PANEL
    ),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        "-p",
        metavar="NAME",
        help="A profile of the config file (or OCTARM_PROFILE).",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class Session:
    """The shared options of one run."""

    json: bool = False
    url: str = ""
    profile: str = ""

    def target(self) -> Target:
        """Find the gateway."""
        return resolve(url=self.url, profile=self.profile)

    def gateway(self) -> Gateway:
        """Open a client; the caller closes it."""
        return Gateway(self.target(), waiting=self._waits)

    def _waits(self, error: OctarmError, pause_s: float) -> None:
        """Say that a request is refused for now; a person would think that nothing happens."""
        if pause_s >= WORTH_SAYING_S:
            show_waiting(error, pause_s, as_json=self.json)

    def answer(self, value: Any) -> bool:
        """In JSON mode print `value` and return True."""
        if self.json:
            print_json(value)
        return self.json


def command(
    app: typer.Typer,
    name: str,
    *,
    examples: Sequence[str] = (),
    remote: bool = True,
    options: type[Any] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command; its first parameter receives the Session.

    The shared options are added to its own; errors that Octarm names become one line, a
    hint and their exit code. With `remote=False` only --json is added. `options` is a
    dataclass whose fields become options too; the function receives it as `options`.
    """
    names = [field.name for field in fields(options)] if options else []

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(ctx: typer.Context, **given: Any) -> None:
            session = _session(ctx, given, remote)
            if options:
                given["options"] = options(**{name: given.pop(name) for name in names})
            try:
                function(session, **given)
            except OctarmError as error:
                sys.stdout.flush()
                show_error(error, as_json=session.json)
                raise typer.Exit(error.exit_code) from None

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        if options:
            own = [p for p in own if p.name != "options"]
            own += inspect.signature(options, eval_str=True).parameters.values()
        signature = _signature(own, remote)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        app.command(name, help=with_examples(function.__doc__, examples))(run)
        return function

    return register


def sub_app(help_text: str) -> typer.Typer:
    """Make a group of commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode="rich")


def _signature(own: Sequence[inspect.Parameter], remote: bool) -> inspect.Signature:
    shared: list[tuple[str, Any, Any]] = [("json_", JsonOption, False)]
    if remote:
        shared += [("url", UrlOption, ""), ("profile", ProfileOption, "")]
    keyword = inspect.Parameter.KEYWORD_ONLY
    mine = [parameter.replace(kind=keyword) for parameter in own]
    context = inspect.Parameter("ctx", keyword, annotation=typer.Context)
    added = [
        inspect.Parameter(name, keyword, annotation=annotation, default=default)
        for name, annotation, default in shared
    ]
    return inspect.Signature([context, *mine, *added])


def _session(ctx: typer.Context, given: dict[str, Any], remote: bool) -> Session:
    """Take the shared options out of `given`; what stands before the command counts too."""
    root = ctx.find_root().obj
    before = root if isinstance(root, Session) else Session()
    return Session(
        json=given.pop("json_", False) or before.json,
        url=(given.pop("url") if remote else "") or before.url,
        profile=(given.pop("profile") if remote else "") or before.profile,
    )


def with_examples(doc: str | None, examples: Sequence[str]) -> str:
    """A docstring as help text, with examples below it."""
    text = inspect.cleandoc(doc or "").replace("[", r"\[")
    if not examples:
        return text
    lines = "\n".join("  " + example.replace("[", r"\[") for example in examples)
    return f"{text}\n\n\b\n[bold]Examples[/bold]\n{lines}"
