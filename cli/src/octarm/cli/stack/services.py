"""Our own services and arms as child processes: what they are told, how they answer."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from octarm.cli.stack.children import Command, last_line, run_to_end
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.ports import LOOPBACK, ask

GATEWAY = "gateway"
PREPARATION_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Role:
    """A process of ours: a name that is unique in the stack, and what to run."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class System:
    """What runs on top of the servers."""

    preparations: tuple[Role, ...]
    """Run to their end, side by side, before the first service starts."""
    services: tuple[Role, ...]
    """In the order of their start; the gateway is the last."""


def module(name: str, package: str, *arguments: str) -> Role:
    """The role that runs `python -m <package> <arguments>`."""
    return Role(name, (sys.executable, "-m", package, *arguments))


def replicated(roles: tuple[Role, ...], counts: Mapping[str, int]) -> tuple[Role, ...]:
    """Repeat each role as often as `counts` says: `llm`, `llm-2`, `llm-3`, …"""
    return tuple(
        Role(role.name if number == 1 else f"{role.name}-{number}", role.argv)
        for role in roles
        for number in range(1, counts.get(role.name, 1) + 1)
    )


OCTARM = System(
    preparations=(
        module("migrate-orchestrator", "octarm.orchestrator", "migrate"),
        module("migrate-memory", "octarm.memory", "migrate"),
        module("provision-bus", "octarm.cli", "bus", "provision"),
    ),
    services=(
        module("arm-registry", "octarm.arm_registry"),
        module("orchestrator", "octarm.orchestrator"),
        module("scheduler", "octarm.scheduler"),
        module("memory", "octarm.memory"),
        module(GATEWAY, "octarm.gateway"),
    ),
)


class ServiceRecipe:
    """A service or an arm: told everything by its environment, ready when `/readyz` says so."""

    def __init__(self, role: Role, *, env: Mapping[str, str], logs: Path) -> None:
        self._role = role
        self._env = env
        self._logs = logs

    @property
    def name(self) -> str:
        """Its role."""
        return self._role.name

    async def prepare(self, port: int) -> Command:
        """See `Recipe.prepare`."""
        return Command(
            argv=self._role.argv,
            log=self._logs / f"{self.name}.log",
            env={**self._env, "OCTARM_HTTP_PORT": str(port)},
        )

    async def answers(self, port: int, pid: int) -> bool:
        """Whether `/readyz` is 200 and the process `pid` is the one that listens there."""
        request = b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n"
        status = await ask(port, request, after=b"HTTP/1.")
        return status.split()[1:2] == [b"200"] and _listens(pid, port)

    async def lives(self, port: int) -> bool:
        """Whether `/healthz` says within 2 s that it gets on with its work."""
        request = b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n"
        try:
            status = await ask(port, request, after=b"HTTP/1.")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return False
        return status.split()[1:2] == [b"200"]

    def url(self, port: int) -> str:
        """`http://127.0.0.1:<port>`."""
        return f"http://{LOOPBACK}:{port}"


async def run_preparation(role: Role, *, env: Mapping[str, str], logs: Path) -> None:
    """Run a role that ends by itself.

    Raises:
        StackError: it failed, with the last line that it wrote.
    """
    log = logs / f"{role.name}.log"
    command = Command(argv=role.argv, log=log, env=env)
    try:
        exit_code = await run_to_end(command, timeout_s=PREPARATION_TIMEOUT_S)
    except TimeoutError as error:
        raise StackError(
            f"{role.name} took longer than {PREPARATION_TIMEOUT_S:.0f} s", f"see {log}"
        ) from error
    if exit_code != 0:
        raise StackError(f"{role.name} ended with {exit_code}: {last_line(log)}", f"see {log}")


def child_environment(urls: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Our own environment, then the server URLs, then what the caller adds."""
    ours = {key: value for key, value in os.environ.items() if key != "OCTARM_HTTP_PORT"}
    return {**ours, **urls, **extra}


def tracing_environment(data: Path) -> dict[str, str]:
    """Export spans below `data`, of tasks that ask for it, unless we were told otherwise."""
    if "OCTARM_TRACE_EXPORT" in os.environ:
        return {}
    sample = os.environ.get("OCTARM_TRACE_SAMPLE", "0")
    return {"OCTARM_TRACE_EXPORT": f"file:{data / 'traces'}", "OCTARM_TRACE_SAMPLE": sample}


def _listens(pid: int, port: int) -> bool:
    try:
        family = [psutil.Process(pid)]
        family += family[0].children(recursive=True)
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for process in family
            for connection in process.net_connections(kind="tcp")
        )
    except psutil.NoSuchProcess:
        return False
