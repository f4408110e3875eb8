"""What a backup folder holds: named, counted, and with checksums."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from octarm.models.errors import InvalidRequest

NAME: Final = "manifest.json"
DUMP: Final = "postgres.dump"
POLICIES: Final = "policies.jsonl"


class Part(BaseModel):
    """One file."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    bytes: int = Field(ge=0)


class Manifest(BaseModel):
    """The table of contents; written last, so that a folder without one is unfinished."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    taken_at: AwareDatetime
    octarm: str = Field(description="Version of the command that took it")
    postgres: int = Field(description="Version of the server, as server_version_num")
    heads: dict[str, str] = Field(description="Migration of each schema")
    rows: dict[str, int] = Field(description="Rows of the main tables, in the same snapshot")
    policies: int | None = Field(description="Keys of the bucket; None: not taken")
    files: dict[str, Part]


def part_of(path: Path) -> Part:
    """Measure a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Part(sha256=digest, bytes=path.stat().st_size)


def write(
    folder: Path,
    names: Iterable[str],
    *,
    postgres: int,
    heads: dict[str, str],
    rows: dict[str, int],
    policies: int | None,
) -> Manifest:
    """Write the table of contents of the files that lie in `folder`."""
    manifest = Manifest(
        taken_at=datetime.now(UTC),
        octarm=version("octarm"),
        postgres=postgres,
        heads=heads,
        rows=rows,
        policies=policies,
        files={name: part_of(folder / name) for name in names},
    )
    (folder / NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def read(folder: Path) -> Manifest:
    """Read a backup's table of contents and check every file against it.

    Raises:
        InvalidRequest: it is no backup, not whole, or its files are not those that were written.
    """
    try:
        manifest = Manifest.model_validate_json((folder / NAME).read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidRequest(
            f"{folder} is no whole backup: {NAME} cannot be read",
            "Take a folder that 'octarm backup' has finished.",
        ) from error
    for name, part in manifest.files.items():
        path = folder / Path(name).name
        if not path.is_file() or part_of(path) != part:
            raise InvalidRequest(
                f"{path} is not as it was written: its checksum differs, or it is gone",
                "Take another copy of this backup, or an older backup.",
            )
    return manifest
