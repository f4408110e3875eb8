"""The embedded stack under fire: processes that can be told to die at a named line."""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from octarm.cli.stack.keeper import Backoff, Keeper, State
from octarm.cli.stack.services import OCTARM, Role, System
from octarm.cli.stack.supervisor import Options, Stack, running
from octarm.common.failpoints import VARIABLE, Name
from tests.support.crashing_arm import NAME, SINK
from tests.support.wait import wait_until

ROOT: Final = Path(__file__).parents[2]
ARM: Final = (sys.executable, "-m", "tests.support.crashing_arm")
# A beat each second renews a lease for 3 s; that of an attempt no beat has listed yet is 15 s.
RENEWED_S: Final = 3.0
LEASE_S: Final = 15.0
ENV: Final = {"OCTARM_HEARTBEAT_S": "1", "OCTARM_DISPATCH_LEASE_S": "4", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True, slots=True)
class Stage:
    """A running stack, the folder of its failpoints, and the file that its arm writes."""

    stack: Stack
    points: Path
    sink: Path

    def arm(self, process: str, point: Name, action: str = "exit") -> Path:
        """Let a process fail once at a line; the file that is given vanishes as it does."""
        file = self.points / f"{process}.{point}"
        unfinished = self.points / "unfinished"
        unfinished.write_text(action, encoding="utf-8")
        return unfinished.rename(file)

    def keeper(self, role: str) -> Keeper:
        """What keeps a role running."""
        return next(keeper for keeper in self.stack.keepers if keeper.name == role)

    def signal(self, role: str, number: signal.Signals) -> int:
        """Send a signal to the process of a role; gives its process id."""
        pid = self.stack.pids()[role]
        os.kill(pid, number)
        return pid

    async def all_ready(self, timeout_s: float = 60) -> None:
        """Wait until everything runs; then let pauses before restarts begin anew."""
        keepers = self.stack.keepers
        await wait_until(lambda: all(k.state is State.READY for k in keepers), timeout_s)
        self.forgive()

    def forgive(self) -> None:
        """Forget earlier deaths, so that the next one is followed by the shortest pause."""
        for keeper in self.stack.keepers:
            keeper._backoff = Backoff()

    def runs(self) -> int:
        """How many runs of attempts the arm has noted."""
        return self.sink.read_bytes().count(b"\n")


@asynccontextmanager
async def a_stage(
    data: Path,
    *,
    arm: Sequence[str] = ARM,
    system: System = OCTARM,
    servers: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    others: Mapping[str, Mapping[str, str]] | None = None,
    look_after: bool = False,
) -> AsyncGenerator[Stage, None]:
    """A stack with two processes of the arm `crasher`, the first run as `arm`.

    `servers` are the URLs of servers that run already, as variables of the environment; `env`
    is for all. `others` are further arms like it, each with its environment. With `look_after`
    what runs and fails `/healthz` for half a minute is started again.
    """
    points, sink = data / "failpoints", data / "runs"
    points.mkdir(parents=True, exist_ok=True)
    sink.touch()
    extra = {NAME: arm, f"{NAME}-2": ARM}
    for name, told in (others or {}).items():
        extra[name] = ("env", *(f"{key}={value}" for key, value in told.items()), *ARM)
    options = Options(
        data=data,
        arms=tuple(Role(name, tuple(argv)) for name, argv in extra.items()),
        env={**ENV, VARIABLE: f"@{points}", SINK: str(sink), **(servers or {}), **(env or {})},
        own_servers=servers is None,
        system=system,
        restart_unhealthy=look_after,
    )
    async with running(Stack(options), data) as stack:
        yield Stage(stack, points, sink)
