"""The measuring client of a stack: a process of its own, so that it costs what a client costs."""

import asyncio
import json
import subprocess
import sys
from typing import Any


async def figures_of(module: str, *arguments: str) -> Any:
    """Run `python -m module arguments`; gives what it prints, read as JSON.

    Raises:
        SystemExit: it failed, and has said why on stderr.
    """
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments), stdout=subprocess.PIPE
    )
    output, _ = await client.communicate()
    if client.returncode:
        raise SystemExit("the measurement failed; see above")
    return json.loads(output)
