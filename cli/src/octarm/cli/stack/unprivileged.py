"""An account under which Postgres agrees to run: it refuses root."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

# Maps us to an ordinary user inside a new user namespace; the files stay ours outside.
_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


@dataclass(frozen=True, slots=True)
class Account:
    """How to start a program under it: a command prefix, or a user to change to, or neither."""

    prefix: tuple[str, ...] = ()
    user: str | None = None

    def give(self, path: Path) -> None:
        """Make `path` belong to the account."""
        if self.user is not None:
            shutil.chown(path, self.user)


async def unprivileged_account() -> Account:
    """Ourselves; when we are root, a user namespace; where those are forbidden, `nobody`."""
    if os.geteuid() != 0:
        return Account()
    if await user_namespaces_work():
        return Account(prefix=_NAMESPACE)
    return Account(user="nobody")


async def user_namespaces_work() -> bool:
    """Whether this process may open a user namespace."""
    if shutil.which(_NAMESPACE[0]) is None:
        return False
    probe = await asyncio.create_subprocess_exec(
        *_NAMESPACE,
        "true",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await probe.wait() == 0
