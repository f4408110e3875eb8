"""Programs under test, each a process of its own."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager


@asynccontextmanager
async def a_python_process(
    *arguments: str, env: Mapping[str, str]
) -> AsyncGenerator[Process, None]:
    """Python with these arguments and exactly this environment, killed if it outlives the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=env, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
