"""Where the gateway is and with which key: command line, environment, profile, embedded stack.

Profiles live in `~/.config/octarm/config.toml` (below XDG_CONFIG_HOME if set):

    default = "work"

    [profiles.work]
    url = "https://octarm.example"
    api_key = "…"
"""

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from octarm.models.errors import InvalidRequest, Unavailable

KEYS: Final = ("url", "api_key")
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Target:
    """The gateway to talk to; `source` says where its URL came from."""

    url: str
    api_key: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration file as it was read."""

    default: str = ""
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def profile(self, name: str) -> Mapping[str, str]:
        """One profile; empty when there is none of that name."""
        return self.profiles.get(name, {})


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration file's path; the file need not exist."""
    home = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "octarm" / "config.toml"


def data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the embedded stack keeps its data unless told otherwise."""
    if given := environ.get("OCTARM_DATA"):
        return Path(given)
    home = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "octarm"


def load(path: Path) -> Config:
    """Read the configuration; a missing file is an empty one.

    Raises:
        InvalidRequest: it is not TOML, or holds something unknown.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config("", {})
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", "Mend or delete it.") from None
    unknown = set(document) - {"default", "profiles"}
    profiles = document.get("profiles", {})
    if unknown or not isinstance(profiles, dict):
        raise InvalidRequest(f"{path}: unknown key {', '.join(sorted(unknown)) or 'profiles'}")
    for name, values in profiles.items():
        _check(path, name, values)
    return Config(str(document.get("default", "")), profiles)


def save(path: Path, config: Config) -> None:
    """Write the configuration in one step, readable for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:  # mkstemp makes it 0600
        file.write(_toml(config))
    Path(temporary).replace(path)


def resolve(*, url: str = "", profile: str = "", environ: Mapping[str, str] = os.environ) -> Target:
    """Find the gateway: --url, OCTARM_URL, the profile, then the embedded stack.

    A profile's key is only ever sent to that profile's own URL.

    Raises:
        InvalidRequest: a profile was named that does not exist.
        Unavailable: nothing says where the gateway is.
    """
    config = load(config_path(environ))
    named = profile or environ.get("OCTARM_PROFILE", "")
    if named and named not in config.profiles:
        raise InvalidRequest(
            f"there is no profile {named!r}", f"Make it: octarm config set url URL -p {named}"
        )
    chosen = config.profile(named or config.default)
    given_key = environ.get("OCTARM_API_KEY", "")
    for found, source in ((url, "--url"), (environ.get("OCTARM_URL", ""), "OCTARM_URL")):
        if found:
            key = chosen.get("api_key", "") if _same_origin(found, chosen.get("url", "")) else ""
            return Target(found, given_key or key, source)
    if chosen.get("url"):
        name = named or config.default
        return Target(chosen["url"], given_key or chosen.get("api_key", ""), f"profile {name}")
    if embedded := embedded_url("gateway", environ):
        return Target(embedded, given_key, "octarm up")
    raise Unavailable(
        f"no gateway is known and no embedded stack runs on {data_folder(environ)}",
        "Start one with 'octarm up', or give --url, OCTARM_URL, OCTARM_DATA or a profile.",
    )


def embedded_url(role: str, environ: Mapping[str, str] = os.environ) -> str:
    """The URL of one part of the running embedded stack, from its up.json; else empty."""
    value = embedded_state(environ).get(role)
    return value if isinstance(value, str) else ""


def embedded_state(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What the embedded stack wrote about itself; empty when there is nothing to read."""
    try:
        document = json.loads((data_folder(environ) / "up.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def is_profile_name(name: str) -> bool:
    """Tell whether a profile may have this name."""
    return _NAME.fullmatch(name) is not None


def _check(path: Path, name: str, values: object) -> None:
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise InvalidRequest(f"{path}: profile {name!r} must hold strings only")
    if unknown := set(values) - set(KEYS):
        raise InvalidRequest(f"{path}: profile {name!r} holds unknown {', '.join(sorted(unknown))}")


def _same_origin(one: str, other: str) -> bool:
    first, second = urlsplit(one), urlsplit(other)
    return bool(second.netloc) and first[:2] == second[:2]


def _toml(config: Config) -> str:
    lines = [f"default = {_string(config.default)}"] if config.default else []
    for name, values in config.profiles.items():
        lines += ["", f"[profiles.{name}]"]
        lines += [f"{key} = {_string(value)}" for key, value in values.items()]
    return "\n".join(lines).strip() + "\n"


def _string(value: str) -> str:
    # A JSON string without non-ASCII escapes is a TOML basic string, DEL apart.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
