"""`octarm config …`: profiles."""

import sys
from typing import Annotated

import typer

from octarm.cli.command import Session, command, sub_app
from octarm.cli.http import Gateway
from octarm.cli.output import note, print_lines
from octarm.cli.profiles import KEYS, Config, Target, config_path, is_profile_name, load, save
from octarm.models.errors import InvalidRequest, OctarmError

Name = Annotated[str, typer.Option("--profile", "-p", metavar="NAME", help="Which profile.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = sub_app("See and change profiles: where the gateway is, and with which key.")
    app.add_typer(group, name="config")
    command(group, "show", remote=False, examples=("octarm config show",))(show)
    command(
        group,
        "set",
        remote=False,
        examples=(
            "octarm config set url https://octarm.example -p work",
            "octarm config set api_key - -p work < key.txt",
            "octarm config set default work",
        ),
    )(set_value)


def show(session: Session) -> None:
    """Show the profiles and which gateway would be used; keys are masked."""
    path = config_path()
    config = load(path)
    profiles = {
        name: {key: _masked(key, value) for key, value in values.items()}
        for name, values in config.profiles.items()
    }
    target, why = _target(session)
    document = {
        "path": str(path),
        "default": config.default,
        "profiles": profiles,
        "url": target.url if target else None,
        "source": target.source if target else None,
    }
    if session.answer(document):
        return
    print_lines(f"file     {path}\ndefault  {config.default or '-'}")
    for name, values in profiles.items():
        print_lines(f"[{name}]\n" + "\n".join(f"  {key} = {text}" for key, text in values.items()))
    print_lines(
        f"in use   {target.url} (from {target.source})" if target else f"in use   - ({why})"
    )


def set_value(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="KEY", help="url, api_key, or default.")],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="The value; '-' reads it from stdin.")
    ],
    profile: Name = "",
) -> None:
    """Set a value of a profile, or the default profile; an empty value removes it."""
    path = config_path()
    config = load(path)
    text = sys.stdin.readline().strip() if value == "-" else value
    changed = _with_default(config, text) if key == "default" else _with(config, profile, key, text)
    save(path, changed)
    if not session.answer({"path": str(path), "default": changed.default}):
        note(f"saved in {path}", "dim")


def _with_default(config: Config, name: str) -> Config:
    if name and name not in config.profiles:
        raise InvalidRequest(f"there is no profile {name!r}", "Set its url first.")
    return Config(name, config.profiles)


def _with(config: Config, profile: str, key: str, value: str) -> Config:
    if key not in KEYS:
        raise InvalidRequest(f"there is no setting {key!r}", f"There are: {', '.join(KEYS)}.")
    name = profile or config.default or "default"
    if not is_profile_name(name):
        raise InvalidRequest(f"{name!r} is no name for a profile", "Use a-z, 0-9 and hyphens.")
    if key == "url" and value:
        Gateway(Target(value, source="VALUE")).close()
    values = {**config.profile(name), key: value}
    profiles = {**config.profiles, name: {k: v for k, v in values.items() if v}}
    return Config(config.default or name, profiles)


def _masked(key: str, value: str) -> str:
    return value if key != "api_key" else f"{value[:3]}…" if len(value) > 12 else "…"


def _target(session: Session) -> tuple[Target | None, str]:
    try:
        return session.target(), ""
    except OctarmError as error:
        return None, error.message
