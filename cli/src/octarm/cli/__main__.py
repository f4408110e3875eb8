"""The `octarm` command."""

import typer

from octarm.cli.stack.commands import doctor, up

app = typer.Typer(no_args_is_help=True, help="Run fleets of LLM workers.")
app.command()(up)
app.command()(doctor)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
