"""Servers as child processes on loopback ports: NATS, Redis, Postgres, and our own services."""

import asyncio
import time
from pathlib import Path
from typing import Protocol

from octarm.cli.stack.children import Child, Command, last_line
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.nats import NatsRecipe
from octarm.cli.stack.ports import free_port, is_free
from octarm.cli.stack.postgres import PostgresRecipe
from octarm.cli.stack.redis import RedisRecipe

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0
_FIRST_POLL_S = 0.005
_LONGEST_POLL_S = 0.1
_PORTS_TO_TRY = 3
_NOT_OURS = (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Recipe(Protocol):
    """How one kind of server is prepared, started, recognised and reached."""

    @property
    def name(self) -> str:
        """Its role, such as nats, postgres or gateway."""

    async def prepare(self, port: int) -> Command:
        """Make its data folder ready, clean up after a crash, and say what to run.

        Raises:
            StackError: its program is missing or its data cannot be used.
        """

    async def answers(self, port: int, pid: int) -> bool:
        """Whether the server on `port` is ready and is the process `pid` that we started."""

    def url(self, port: int) -> str:
        """Where clients connect."""


class Server:
    """A server process that can be started again on the same port with the same data.

    Without `keeps_port` it moves to another port when its own is taken at a later start.
    """

    def __init__(self, recipe: Recipe, *, port: int | None = None, keeps_port: bool = True) -> None:
        self._recipe = recipe
        self._keeps_port = keeps_port
        self._port_is_settled = port is not None
        self._port = port or free_port()
        self._child: Child | None = None

    @property
    def name(self) -> str:
        """Its role, such as nats, postgres or gateway."""
        return self._recipe.name

    @property
    def url(self) -> str:
        """Where clients connect; stays the same once the server has been up."""
        return self._recipe.url(self._port)

    @property
    def port(self) -> int:
        """Its port on the loopback address."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id of its last start."""
        return self._child.pid if self._child else None

    async def start(self) -> Child:
        """Start it and wait until it answers, and until the one that answers is ours.

        Raises:
            StackError: it did not come up, or its program or data cannot be used.
        """
        for _ in range(_PORTS_TO_TRY):
            try:
                return await self._start_once()
            except StackError:
                # Somebody may have taken the port since we found it free.
                if self._port_is_settled or is_free(self._port):
                    raise
                self._port = free_port()
        return await self._start_once()

    async def wait(self) -> int:
        """Wait until the started process ends; its exit code, negative after a signal.

        What it started itself and left behind is ended too.
        """
        if self._child is None:
            raise StackError(f"{self.name} was never started")
        exit_code = await self._child.wait()
        self._child.kill()
        return exit_code

    def kill(self) -> None:
        """End it at once. Idempotent; its data stays."""
        if self._child is not None and self._child.exit_code is None:
            self._child.kill()

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> bool:
        """Stop it within `grace_s` or kill it. Idempotent; its data stays.

        Returns:
            Whether it ended by itself in time.
        """
        return self._child is None or await self._child.stop(grace_s=grace_s)

    async def _start_once(self) -> Child:
        try:
            command = await self._recipe.prepare(self._port)
        except OSError as error:
            # Such as a full disk: what keeps us running tries again later.
            raise StackError(f"{self.name} cannot be prepared: {error}") from error
        if not is_free(self._port):
            raise StackError(f"{self.name} cannot start: port {self._port} is in use")
        try:
            child = await Child.start(command)
        except OSError as error:
            raise StackError(f"{self.name} cannot be executed: {error}") from error
        self._child = child
        try:
            await self._until_it_answers(child)
        except BaseException:
            await child.stop(grace_s=STOP_GRACE_S)
            raise
        self._port_is_settled = self._keeps_port
        return child

    async def _until_it_answers(self, child: Child) -> None:
        give_up_at = time.monotonic() + START_TIMEOUT_S
        pause_s = _FIRST_POLL_S
        while time.monotonic() < give_up_at:
            if child.exit_code is not None:
                break
            try:
                if await self._recipe.answers(self._port, child.pid):
                    return
            except _NOT_OURS:
                pass  # not listening yet, or somebody else's server
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.2, _LONGEST_POLL_S)
        reason = "did not answer" if child.exit_code is None else f"ended with {child.exit_code}"
        raise StackError(
            f"{self.name} on port {self._port} {reason}: {last_line(child.log)}",
            f"see {child.log}",
        )


def nats_server(data: Path, *, port: int | None = None) -> Server:
    """nats-server with JetStream on; its files lie under `<data>/nats`."""
    return Server(NatsRecipe(data), port=port)


def redis_server(data: Path, *, port: int | None = None) -> Server:
    """redis-server that keeps nothing: it is a cache in front of Postgres."""
    return Server(RedisRecipe(data), port=port)


def postgres_server(data: Path, *, port: int | None = None, durable: bool = True) -> Server:
    """Postgres with a database `octarm`; its files lie under `<data>/postgres`.

    Without `durable` it skips fsync, which only a database that nobody will miss may do.
    """
    return Server(PostgresRecipe(data, durable=durable), port=port)
