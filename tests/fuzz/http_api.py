"""Schemathesis on the gateway's own OpenAPI document: no 500, and no answer breaks its schema.

`python -m tests.fuzz.http_api` does it for ten minutes, against a stack of its own.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from random import randrange
from typing import Final

from octarm.cli.stack.supervisor import running_stack

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# A stream of events ends only with its task; and what sheds load would refuse all that follows.
LATER: Final = "(/events|/v1/shedding)$"
SWITCH: Final = "/v1/shedding$"
SWITCH_S: Final = 3
REQUEST_S: Final = 20


def fuzz(url: str, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Fuzz every operation for `seconds`; the return code is 0 when nothing was found."""
    done = _fuzz(url, seconds, seed, ("--exclude-path-regex", LATER))
    return done if done.returncode else _fuzz(url, SWITCH_S, seed, ("--include-path-regex", SWITCH))


def _fuzz(
    url: str, seconds: int, seed: int, which: tuple[str, str]
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="octarm-fuzz-") as folder:
        return subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
                *("run", f"{url}/openapi.json", "--checks", ",".join(CHECKS)),
                *(*which, "--request-timeout", str(REQUEST_S)),
                *("--max-time", str(seconds), "--max-examples", str(max(8, seconds // 3))),
                *("--seed", str(seed), "--continue-on-failure", "--no-color"),
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * seconds + 60,
            check=False,
        )


async def fuzz_a_stack(seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Start a stack of our own, fuzz it, stop it."""
    with tempfile.TemporaryDirectory(prefix="octarm-fuzz-") as folder:
        async with running_stack(Path(folder), env={"OCTARM_TRACE_SAMPLE": "0"}) as stack:
            return await asyncio.to_thread(fuzz, stack.urls.gateway, seconds, seed)


def main() -> None:
    """Fuzz as the arguments say; exit as schemathesis does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=randrange(2**32))
    given = parser.parse_args()
    done = asyncio.run(fuzz_a_stack(given.seconds, given.seed))
    print(done.stdout)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
