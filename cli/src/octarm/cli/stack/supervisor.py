"""The whole stack: servers, then services, then arms; kept running, drained in reverse."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from octarm.cli.stack.arms import built_in_arm
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.keeper import Keeper
from octarm.cli.stack.ports import is_free
from octarm.cli.stack.servers import Server, nats_server, postgres_server, redis_server
from octarm.cli.stack.services import (
    GATEWAY,
    OCTARM,
    Role,
    ServiceRecipe,
    System,
    child_environment,
    run_preparation,
    tracing_environment,
)
from octarm.cli.stack.upfile import Urls, holding, remove_up_file, rotate_logs, write_up_file

DRAIN_GRACE_S = 15.0
# An arm finishes its running tasks for up to 30 s (OCTARM_DRAIN_S) before it hands them back.
ARM_DRAIN_GRACE_S = 35.0
_PORT_GRACE_S = 3.0
_SERVER_URLS = {
    "nats": "OCTARM_NATS_URL",
    "redis": "OCTARM_REDIS_URL",
    "postgres": "OCTARM_POSTGRES_URL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a stack consists of."""

    data: Path
    arms: tuple[Role, ...] = ()
    http_port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    own_servers: bool = True
    """False: use the servers whose URLs are in `env` or in our environment."""
    system: System = OCTARM
    restart_unhealthy: bool = False
    """Start a service again that runs and fails `/healthz` for half a minute."""


class Stack:
    """A stack in one data folder; `changed` gets a line for people at each change."""

    def __init__(
        self, options: Options, *, changed: Callable[[str], None] = lambda _: None
    ) -> None:
        self._options = options
        self._logs = options.data / "logs"
        self._say = changed
        self._servers: list[Keeper] = []
        self._services: list[Keeper] = []
        self._arms: list[Keeper] = []
        self._urls: Urls | None = None

    @property
    def keepers(self) -> list[Keeper]:
        """Every process, in the order of their start."""
        return [*self._servers, *self._services, *self._arms]

    @property
    def services(self) -> list[Keeper]:
        """The services and arms, without the servers they stand on."""
        return [*self._services, *self._arms]

    @property
    def urls(self) -> Urls:
        """Where to reach it, once it is up.

        Raises:
            StackError: it is not up.
        """
        if self._urls is None:
            raise StackError("the stack is not up")
        return self._urls

    def pids(self) -> dict[str, int]:
        """Role → process id of everything that was started, and of ourselves."""
        started = {keeper.name: keeper.server.pid for keeper in self.keepers}
        return {"supervisor": os.getpid()} | {
            role: pid for role, pid in started.items() if pid is not None
        }

    def kill(self, role: str) -> None:
        """`kill -9` the process of a role; it will be started again.

        Raises:
            KeyError: there is no such role.
        """
        os.kill(self.pids()[role], signal.SIGKILL)

    def kill_everything(self) -> None:
        """End every process at once; a `stop` that is under way then returns quickly."""
        for keeper in self.keepers:
            keeper.server.kill()

    async def start(self) -> None:
        """Start everything and wait until all of it is ready.

        Raises:
            StackError: a part did not start; call `stop` to end the others.
        """
        options = self._options
        await self._refuse_taken_port()
        remove_up_file(options.data)
        rotate_logs(self._logs)
        given = {**tracing_environment(options.data), **options.env}
        env = child_environment(await self._start_servers(), given)
        await _all(
            run_preparation(role, env=env, logs=self._logs) for role in options.system.preparations
        )
        self._services = [self._kept(role, env) for role in options.system.services]
        await _all(keeper.start() for keeper in self._services)
        self._arms = [self._kept(role, env) for role in options.arms]
        await _all(keeper.start() for keeper in self._arms)
        gateway = next(k.server.url for k in self._services if k.name == GATEWAY)
        servers = {name: env[variable] for name, variable in _SERVER_URLS.items()}
        self._urls = Urls(gateway=gateway, **servers)
        self._write_up_file()

    async def watch(self) -> None:
        """Keep everything running; return only by being cancelled, or raise what is a bug."""
        await asyncio.gather(*(keeper.watch() for keeper in self.keepers))

    async def stop(self) -> None:
        """Drain in reverse order, each step in bounded time. Idempotent."""
        remove_up_file(self._options.data)
        self._urls = None
        gateway = [keeper for keeper in self._services if keeper.name.startswith(GATEWAY)]
        others = [keeper for keeper in self._services if keeper not in gateway]
        await _stop(self._arms, ARM_DRAIN_GRACE_S)
        for group in (gateway, others, self._servers):
            await _stop(group, DRAIN_GRACE_S)

    async def _start_servers(self) -> dict[str, str]:
        if not self._options.own_servers:
            return self._urls_from_environment()
        data = self._options.data
        makers = (nats_server, redis_server, postgres_server)
        self._servers = [Keeper(make(data), changed=self._changed) for make in makers]
        await _all(keeper.start() for keeper in self._servers)
        return {_SERVER_URLS[keeper.name]: keeper.server.url for keeper in self._servers}

    def _urls_from_environment(self) -> dict[str, str]:
        env = child_environment({}, self._options.env)
        missing = [variable for variable in _SERVER_URLS.values() if not env.get(variable)]
        if missing:
            raise StackError(
                f"{', '.join(missing)} not set",
                "they say where the existing servers are; without --services-only none is needed",
            )
        return {variable: env[variable] for variable in _SERVER_URLS.values()}

    def _kept(self, role: Role, env: Mapping[str, str]) -> Keeper:
        recipe = ServiceRecipe(role, env=env, logs=self._logs)
        is_gateway = role.name == GATEWAY
        port = self._options.http_port if is_gateway else None
        server = Server(recipe, port=port, keeps_port=is_gateway)
        watched = self._options.restart_unhealthy
        lives = (lambda: recipe.lives(server.port)) if watched else None
        return Keeper(server, changed=self._changed, lives=lives)

    def _changed(self, line: str) -> None:
        try:
            if self._urls is not None:
                self._write_up_file()
        except OSError as error:
            # A full disk must not end the keeping of what will run again once there is room.
            self._say(f"up.json could not be written: {error}")
        self._say(line)

    def _write_up_file(self) -> None:
        write_up_file(self._options.data, self.urls, self.pids())

    async def _refuse_taken_port(self) -> None:
        """The gateway of a stack that was just killed may still be letting go of the port."""
        port = self._options.http_port
        give_up_at = time.monotonic() + _PORT_GRACE_S
        while port is not None and not is_free(port):
            if time.monotonic() > give_up_at:
                raise StackError(f"port {port} is in use", "choose another with --http-port")
            await asyncio.sleep(0.1)


@asynccontextmanager
async def running(stack: Stack, data: Path) -> AsyncGenerator[Stack, None]:
    """Own the data folder, start the stack, and drain it at the end, whatever happens."""
    with holding(data):
        try:
            await stack.start()
            yield stack
        finally:
            await stack.stop()


@asynccontextmanager
async def running_stack(
    data: Path,
    *,
    arms: Sequence[str] = (),
    extra_arms: Mapping[str, Sequence[str]] | None = None,
    http_port: int | None = None,
    env: Mapping[str, str] | None = None,
    system: System = OCTARM,
    changed: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[Stack, None]:
    """A stack for programs: `arms` are built-in ones, `extra_arms` maps a role to what to run.

    `env` is added to the environment of every service and arm; `changed` gets a line for people
    at each change.

    Raises:
        StackError: a part did not start, or somebody else uses the data folder.
    """
    extra = [Role(name, tuple(argv)) for name, argv in (extra_arms or {}).items()]
    options = Options(
        data=data,
        arms=(*(built_in_arm(name) for name in arms), *extra),
        http_port=http_port,
        env=env or {},
        system=system,
    )
    async with running(Stack(options, changed=changed), data) as stack:
        yield stack


async def _all(starts: Iterable[Coroutine[object, object, None]]) -> None:
    """Await all of them; when one fails, cancel the others and raise its error."""
    tasks = [asyncio.create_task(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stop(keepers: Sequence[Keeper], grace_s: float) -> None:
    await asyncio.gather(*(keeper.stop(grace_s=grace_s) for keeper in keepers))
