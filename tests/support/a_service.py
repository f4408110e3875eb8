"""A tiny process on `octarm.common.service`, for tests of its life."""

import asyncio
import sys
from typing import ClassVar

from pydantic import SecretStr

from octarm.common.service import ServiceSettings, run


class Settings(ServiceSettings):
    """One secret and the common settings."""

    section: ClassVar[str] = "toy"

    secret: SecretStr


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Say that it runs; drain for a second, or for ever when asked to."""
    sys.stdout.write("running\n")
    sys.stdout.flush()
    await stop.wait()
    if settings.instance == "stubborn":
        await asyncio.Event().wait()


if __name__ == "__main__":
    run(main, Settings, "toy")
