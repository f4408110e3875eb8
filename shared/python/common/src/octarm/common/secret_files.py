"""Secrets as files: what stands in the environment is seen by every child and every crash report.

OCTARM_SECRETS names the folder; a file there is called like its variable, in lower case.
"""

import os
from pathlib import Path

from octarm.models.errors import OctarmError


def folder() -> str | None:
    """Name the folder, if there is one.

    Raises:
        OctarmError: OCTARM_SECRETS names something else.
    """
    named = os.environ.get("OCTARM_SECRETS") or None
    if named and not Path(named).is_dir():
        raise OctarmError(f"OCTARM_SECRETS names {named}, which is no folder")
    return named


def secret(variable: str) -> str:
    """Give what `variable` is set to, else what its file holds, else nothing.

    For commands that have no settings class.

    Raises:
        OctarmError: OCTARM_SECRETS is no folder, or the file cannot be read.
    """
    if value := os.environ.get(variable, ""):
        return value
    file = Path(folder() or "", variable.lower())
    try:
        return file.read_text(encoding="utf-8").strip() if folder() and file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise OctarmError(f"the file of {variable} in OCTARM_SECRETS cannot be read") from error
