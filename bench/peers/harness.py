"""Run one peer: fresh servers' contents, its workers, a client process; the best setting counts."""

import asyncio
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import nats
import psycopg
import redis

NAMES: Final = (
    "celery_redis",
    "dramatiq_redis",
    "taskiq_jetstream",
    "taskiq_redis_streams",
    "docket_redis",
    "procrastinate_postgres",
    "dbos_postgres",
    "ray_core",
)
NOT_MEASURED: Final = {
    "temporal": "its server is no package of any registry used here, and its SDKs would download it"
}
# How often Redis syncs its log: within a second (its default), or before it answers.
Fsync = Literal["everysec", "always"]
SYNCS: Final[Sequence[Fsync]] = ("everysec", "always")
WARM_UP: Final = 100
TRY_SHARE: Final = 5
ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the embedded servers are."""

    nats: str
    redis: str
    postgres: str

    def environment(self) -> dict[str, str]:
        """Tell workers and clients."""
        return {f"BENCH_{name.upper()}": url for name, url in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a peer: its worker processes (arguments of Python) and their environment."""

    name: str
    workers: Sequence[Sequence[str]]
    env: Mapping[str, str] = field(default_factory=dict)


class Peer(Protocol):
    """What a peer's module has."""

    REQUIRES: str
    STORE: Literal["Redis", "Postgres", "JetStream", "memory"]
    CONDITIONS: str
    SETTINGS: Sequence[Setting]

    def measure(self, n: int) -> float:
        """Send `n` tasks, await and check every result; gives tasks a second."""
        ...


@dataclass(frozen=True, slots=True)
class Figure:
    """What one peer came to; `durable` is whether a task is on the disk before it is accepted."""

    peer: str
    durable: bool
    tasks_per_s: float
    setting: str
    conditions: str
    tried: Mapping[str, float]


def peer(name: str) -> Peer:
    """Load a peer's module."""
    return cast(Peer, importlib.import_module(f"bench.peers.{name}"))


def is_installed(name: str) -> bool:
    """Whether the group `peers` is installed, as far as this peer needs it."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    required = source.partition('REQUIRES = "')[2].partition('"')[0]
    return importlib.util.find_spec(required) is not None


def syncs(name: str, servers: Servers) -> Sequence[Fsync]:
    """Tell how Redis is to sync in the runs of this peer; others have one run."""
    return SYNCS if described(name, servers)["store"] == "Redis" else SYNCS[:1]


def measured(name: str, servers: Servers, n: int, fsync: Fsync) -> Figure:
    """Try every setting with a part of `n`, then the best one with all of it.

    Raises:
        RuntimeError: a result was missing or wrong, or a process failed.
    """
    said = described(name, servers)
    settings = settings_of(name, servers)
    tried: dict[str, float] = {}
    if len(settings) > 1:
        few = max(n // TRY_SHARE, 1)
        tried = {it.name: rate(name, servers, it, n=few, fsync=fsync) for it in settings}
    best = max(settings, key=lambda it: tried.get(it.name, 0))
    tasks_per_s = rate(name, servers, best, n=n, fsync=fsync)
    durable = fsync == "always" or said["store"] == "Postgres"
    return Figure(name, durable, tasks_per_s, best.name, said["conditions"], tried)


def settings_of(name: str, servers: Servers) -> list[Setting]:
    """Give the settings to try."""
    return [Setting(**setting) for setting in described(name, servers)["settings"]]


def rate(
    name: str, servers: Servers, setting: Setting, *, n: int, fsync: Fsync = "everysec"
) -> float:
    """Run `n` tasks in one setting, on empty servers; gives tasks a second."""
    asyncio.run(emptied(servers, fsync))
    env = os.environ | servers.environment() | dict(setting.env) | {"BENCH_N": str(n)}
    _client(name, "prepare", env)
    with _running(setting.workers, env):
        return round(float(_client(name, "measure", env)), 1)


def described(name: str, servers: Servers) -> dict[str, Any]:
    """Ask a peer's module, in a process of its own: it connects as it is loaded."""
    found: dict[str, Any] = json.loads(
        _client(name, "describe", os.environ | servers.environment())
    )
    return found


def _client(name: str, verb: str, env: Mapping[str, str]) -> str:
    command = [sys.executable, "-m", "bench.peers.client", name, verb]
    limit_s = 120 + int(env.get("BENCH_N", "0")) / 50
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{name} {verb}: not done in {limit_s:.0f} s") from error
    if done.returncode:
        raise RuntimeError(f"{name} {verb}: {done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


@contextmanager
def _running(commands: Sequence[Sequence[str]], env: Mapping[str, str]) -> Iterator[None]:
    """Keep worker processes running; each has a process group, which ends as a whole."""
    log = subprocess.DEVNULL if "BENCH_VERBOSE" not in env else None
    workers = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for worker in workers:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


async def emptied(servers: Servers, fsync: Fsync = "everysec") -> None:
    """Begin anew: empty streams, an empty Redis with a log, an empty database."""
    nc = await nats.connect(servers.nats)
    js = nc.jetstream()
    for stream in await js.streams_info():
        if stream.config.name:
            await js.delete_stream(stream.config.name)
    await nc.close()
    with redis.Redis.from_url(servers.redis) as connection:
        connection.flushall()
        for name, value in {"appendonly": "yes", "appendfsync": fsync, "save": ""}.items():
            connection.config_set(name, value)
    admin, _, database = servers.postgres.rpartition("/")
    with psycopg.connect(f"{admin}/postgres", autocommit=True) as connection_pg:
        for name in (database, f"{database}_dbos_sys"):
            connection_pg.execute(f'drop database if exists "{name}" with (force)'.encode())
        connection_pg.execute(f'create database "{database}"'.encode())
