"""Another version of Octarm beside this one: a checkout of the same repository, and its processes.

Both use the packages that are installed here; only our own code is the other's.
"""

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from octarm.cli.stack.services import OCTARM, Role, System
from tests.support.crashing_arm import NAME as ARM
from tests.support.sources import ROOT

MIGRATIONS: Final = (
    "shared/python/ledger/src/octarm/ledger/migrations/versions",
    "services/memory/src/octarm/memory/migrations/versions",
)
# How far back a version is looked for: commits that touched a migration.
LOOKED_AT: Final = 40
_WHERE: Final = "import octarm.{0} as it; print(it.__file__)"


class NoHistory(Exception):
    """The repository cannot tell what was before."""


@dataclass(frozen=True, slots=True)
class Version:
    """The code in a folder, and the processes that run it."""

    folder: Path
    name: str

    @property
    def python_path(self) -> str:
        """Our packages as they are there, and the arms of the tests."""
        sources = sorted(path for path in self.folder.glob("**/src") if (path / "octarm").is_dir())
        return os.pathsep.join(map(str, [*sources, self.folder]))

    def role(self, role: Role) -> Role:
        """The same role with this code; what the environment says else stays."""
        return Role(role.name, ("/usr/bin/env", f"PYTHONPATH={self.python_path}", *role.argv))

    def system(self) -> System:
        """All services, and what runs before them."""
        return System(
            tuple(self.role(one) for one in OCTARM.preparations),
            tuple(self.role(one) for one in OCTARM.services),
        )

    def arm(self) -> Role:
        """The arm that counts its runs."""
        return self.role(Role(ARM, (sys.executable, "-m", "tests.support.crashing_arm")))

    def is_run(self, package: str) -> bool:
        """Whether its processes really import its own code, not what is installed."""
        found = subprocess.run(
            [sys.executable, "-c", _WHERE.format(package)],
            env={**os.environ, "PYTHONPATH": self.python_path},
            capture_output=True,
            text=True,
            check=True,
        )
        return Path(found.stdout.strip()).is_relative_to(self.folder)


def this() -> Version:
    """The code of this checkout, as it is now."""
    return Version(ROOT, "N+1")


def checked_out(revision: str, folder: Path) -> Version:
    """Put the files of a revision into `folder`; the repository stays as it is.

    Raises:
        NoHistory: the repository does not have it.
    """
    packed = _git("archive", "--format=tar", revision)
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return Version(folder, f"N ({revision[:10]})")


def version_before() -> str:
    """Give the newest commit whose tables are older than those here.

    Raises:
        NoHistory: there is no such commit, or the clone is shallow.
    """
    here = _numbered(*(path for folder in MIGRATIONS for path in _files(folder)))
    log = _git("log", f"--max-count={LOOKED_AT}", "--format=%P", "HEAD", "--", *MIGRATIONS).decode()
    for parents in log.splitlines():
        before = parents.split(" ")[0]
        if not before:
            continue
        listed = _git("ls-tree", "-r", "--name-only", before, "--", *MIGRATIONS).decode()
        there = _numbered(*listed.splitlines())
        # A commit in which two migrations had one number never ran anywhere.
        if there < here and len({name.split("_")[0] for name in there}) == len(there):
            return before
    raise NoHistory("no commit of this clone has older tables")


def _files(folder: str) -> list[str]:
    return [f"{folder}/{path.name}" for path in (ROOT / folder).glob("*.py")]


def _numbered(*paths: str) -> frozenset[str]:
    """Name migrations so that those of ledger and memory are told apart: `m0003_semantic`."""
    names = [Path(path).name for path in paths]
    return frozenset(name for name in names if name[:4].isdigit() or name[1:5].isdigit())


def _git(*arguments: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, check=False, timeout=60
        )
    except OSError as error:
        raise NoHistory(f"git does not run here: {error}") from error
    if done.returncode:
        raise NoHistory(done.stderr.decode(errors="replace").strip()[:300])
    return done.stdout
