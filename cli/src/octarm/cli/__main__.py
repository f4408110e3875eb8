"""The `octarm` command: `python -m octarm.cli` is the same."""

import sys
from collections.abc import Sequence

import typer

from octarm.cli.command import (
    JsonOption,
    ProfileOption,
    Session,
    UrlOption,
    with_examples,
)
from octarm.cli.commands import (
    admin,
    arms,
    backup,
    config,
    dead_letters,
    ledger,
    logs,
    memory,
    policies,
    shed,
    submit,
    tasks,
    trace,
)
from octarm.cli.demo import command as demo
from octarm.cli.output import note

USAGE_ERROR = 3


def make_app() -> typer.Typer:
    """Put the commands together."""
    app = typer.Typer(
        name="octarm",
        help="Run fleets of LLM workers: submit tasks, follow them, run the services.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_shared)
    _register_stack(app)
    groups = (
        submit,
        tasks,
        arms,
        policies,
        memory,
        dead_letters,
        shed,
        trace,
        logs,
        config,
        admin,
        backup,
        ledger,
        demo,
    )
    for group in groups:
        group.register(app)
    return app


def _shared(
    ctx: typer.Context, json_: JsonOption = False, url: UrlOption = "", profile: ProfileOption = ""
) -> None:
    ctx.obj = Session(json=json_, url=url, profile=profile)


def _register_stack(app: typer.Typer) -> None:
    from octarm.cli.stack.commands import doctor, up

    starts = ("octarm up", "octarm up --data ./data --replicas orchestrator=2,scheduler=2")
    app.command("up", help=with_examples(up.__doc__, starts))(up)
    app.command(
        "doctor",
        help=with_examples(doctor.__doc__, ("octarm doctor --json", "octarm doctor --cluster")),
    )(doctor)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code: 0 ok, 1 error, 2 authentication, 3 usage."""
    try:
        code = make_app()(args=list(arguments), prog_name="octarm", standalone_mode=False)
    except typer.TyperException as error:
        _show_usage_error(error)
        return USAGE_ERROR
    except (typer.Abort, BrokenPipeError):
        return 1
    return code if isinstance(code, int) else 0


def _show_usage_error(error: typer.TyperException) -> None:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return
    note(f"error: {error.format_message()}", "bold red")
    if context is not None:
        note(f"hint: see '{context.command_path} --help'", "dim")


def main() -> None:
    """Be the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
