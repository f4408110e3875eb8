"""A simulation as its host sees it: one child, bounded in time, memory and answer."""

import asyncio
import signal
import sys
from typing import Final

import msgspec

from octarm.models.errors import InvalidRequest, PayloadTooLarge, TimedOut
from octarm.policies.simulation.work import CPU_S, MAX_RESULT, Refused, Work
from octarm.policies.simulator.outcome import Outcome

WITHIN_S: Final = 110.0
_HINT: Final = "Simulate fewer tasks or policies at once, or a shorter time."
_answer: Final = msgspec.json.Decoder(list[Outcome])
_refused: Final = msgspec.json.Decoder(Refused)


async def simulate(work: Work, *, within_s: float = WITHIN_S) -> list[Outcome]:
    """Run a simulation in a child with no environment, files or processes of its own.

    Raises:
        InvalidRequest: a load or a policy is none.
        TimedOut: it took too long, or too much processor time.
        PayloadTooLarge: it needs more memory than it may have, or its result is too large.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-m", "octarm.policies.simulation.child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"RUST_BACKTRACE": "0"},
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(within_s):
            answer = await _talk(process, msgspec.json.encode(work))
            code = await process.wait()
    except TimeoutError:
        raise TimedOut(f"the simulation took more than {within_s:g} s", _HINT) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _read(code, answer)


async def _talk(process: asyncio.subprocess.Process, work: bytes) -> bytes:
    """Give the work, and take at most as much as a result may have."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(work)
        await process.stdin.drain()
        process.stdin.close()
    except ConnectionError:
        # It has ended; its exit code says why.
        return b""
    answer = bytearray()
    while part := await process.stdout.read(65_536):
        answer += part
        if len(answer) > MAX_RESULT:
            raise PayloadTooLarge(f"the result has more than {MAX_RESULT} bytes", _HINT)
    return bytes(answer)


def _read(code: int, answer: bytes) -> list[Outcome]:
    if code == -signal.SIGXCPU:
        raise TimedOut(f"the simulation used more than {CPU_S} s of processor time", _HINT)
    if code != 0 or not answer:
        raise PayloadTooLarge(f"the simulation ran out of memory (exit {code})", _HINT)
    if answer.startswith(b"["):
        return _answer.decode(answer)
    refused = _refused.decode(answer)
    code_name = "INVALID_POLICY" if refused.what == "policy" else "INVALID_LOAD"
    raise InvalidRequest(refused.why[:2_000], "Correct it and simulate again.", code_name)
