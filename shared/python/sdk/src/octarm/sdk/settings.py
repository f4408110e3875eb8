"""What an arm's process and a client read from their environment."""

import json
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from octarm.common.service import ServiceSettings
from octarm.models.errors import Unavailable


class ArmSettings(ServiceSettings):
    """The settings of an arm's process."""

    section: ClassVar[str] = "arm"

    nats_url: str = Field(default="", description="Empty: that of the embedded stack")
    http_port: int = Field(
        default=0, ge=0, le=65535, description="/healthz, /readyz, /metrics; 0: none of them"
    )
    heartbeat_s: float = Field(default=5.0, gt=0, le=60, description="Seconds between beats")
    drain_s: float = Field(
        default=30.0, ge=0, le=3600, description="Seconds to finish in at the end"
    )
    arm_key: SecretStr = Field(
        default=SecretStr(""), description="Proves who owns the arm; empty: nobody does"
    )


class ClientSettings(BaseSettings):
    """Where a client finds the bus."""

    model_config = SettingsConfigDict(env_prefix="OCTARM_", frozen=True, env_ignore_empty=True)

    nats_url: str = Field(default="", description="Empty: that of the embedded stack")
    data: Path | None = Field(
        default=None, description="Folder of the embedded stack, by default ~/.local/share/octarm"
    )
    data_home: Path = Field(
        default=Path("~/.local/share"),
        validation_alias="XDG_DATA_HOME",
        description="Where the folder `octarm` is when `OCTARM_DATA` names none",
    )


def find_nats(settings: ClientSettings) -> str:
    """Give the URL of NATS: as set, else that of the embedded stack.

    Raises:
        Unavailable: neither is there.
    """
    if settings.nats_url:
        return settings.nats_url
    try:
        folder = settings.data or settings.data_home / "octarm"
        text = (folder.expanduser() / "up.json").read_text(encoding="utf-8")
        return str(json.loads(text)["nats"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            "no NATS is known and no embedded stack runs",
            "Start one with 'octarm up', or set OCTARM_NATS_URL.",
        ) from error
