"""What the chaos driver does to a running stack; each scenario is a coroutine."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import nats
import psutil
from nats.aio.client import Client as NATS
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from redis.asyncio import Redis

from octarm.models.subjects import DISPATCH, INTAKE, READY, RESULTS
from tests.chaos.diary import Diary
from tests.chaos.load import NAP_S
from tests.chaos.stage import Stage
from tests.chaos.wind import Wind
from tests.support.crashing_arm import NAME
from tests.support.wait import wait_until

WARM_UP_S: Final = 5.0
PAUSE_S: Final = 60.0
FLOW: Final = (INTAKE, READY, DISPATCH, RESULTS)


@dataclass(frozen=True, slots=True)
class Storm:
    """A stack, the load on it, and how long what can be long shall last."""

    stage: Stage
    wind: Wind
    seconds: float
    chance: random.Random
    diary: Diary | None = None
    """Episodes that are written meanwhile, where the plan wants them."""
    cluster: object = None
    """The `Cluster` below the stack, where the plan wants one."""


Scenario = Callable[[Storm], Awaitable[None]]


async def calm(storm: Storm) -> None:
    """Nothing: the figures to compare with."""
    await asyncio.sleep(storm.seconds)


async def kill9(storm: Storm) -> None:
    """`kill -9` of a random process, server or service, every five seconds."""
    roles = [keeper.name for keeper in storm.stage.stack.keepers]
    until = asyncio.get_running_loop().time() + storm.seconds
    while asyncio.get_running_loop().time() < until:
        role = storm.chance.choice(roles)
        with suppress(ProcessLookupError):
            async with storm.wind.fault(f"kill -9 {role}"):
                storm.stage.stack.kill(role)
        await asyncio.sleep(5)


def killing(role: str, times: int = 3) -> Scenario:
    """`kill -9` of one role, again and again."""

    async def scenario(storm: Storm) -> None:
        for _ in range(times):
            async with storm.wind.fault(f"kill -9 {role}"):
                storm.stage.stack.kill(role)
            await asyncio.sleep(10)

    return scenario


async def ids_forgotten(storm: Storm) -> None:
    """The scheduler dies with READY unacknowledged, then NATS, which forgets what it dispatched."""
    for _ in range(3):
        file = storm.stage.arm("scheduler", "dispatch_before_ack")
        async with storm.wind.fault("kill -9 scheduler after DISPATCH, then NATS"):
            await wait_until(partial(_is_gone, file), 30)
            await asyncio.sleep(1)
            storm.stage.stack.kill("nats")
        await asyncio.sleep(15)


def _is_gone(file: Path) -> bool:
    return not file.exists()


def pausing(role: str) -> Scenario:
    """SIGSTOP of a role and of what it started, SIGCONT after a minute.

    Of two that compete to lead it is the leader: the other one has just been started.
    """

    async def scenario(storm: Storm) -> None:
        pids = storm.stage.stack.pids()
        if f"{role}-2" in pids and role != NAME:
            storm.stage.signal(f"{role}-2", signal.SIGKILL)
            await asyncio.sleep(12)
            await storm.stage.all_ready()
        first = psutil.Process(pids[role])
        async with storm.wind.fault(f"SIGSTOP {role} for {PAUSE_S:.0f} s"):
            # The parent first, or it would start others meanwhile. Each process of Postgres leads
            # a group of its own, so a signal to the group would only stop the parent.
            first.suspend()
            stopped = [first, *first.children(recursive=True)]
            for process in stopped[1:]:
                process.suspend()
            try:
                await asyncio.sleep(PAUSE_S)
            finally:
                for process in reversed(stopped):
                    process.resume()
        await asyncio.sleep(10)

    return scenario


async def redis_flush(storm: Storm, *, times: int = 10) -> None:
    """FLUSHALL of Redis every second."""
    for _ in range(times):
        async with storm.wind.fault("FLUSHALL"), Redis.from_url(storm.stage.stack.urls.redis) as r:
            await r.flushall()
        await asyncio.sleep(1)


@asynccontextmanager
async def connected(storm: Storm) -> AsyncGenerator[NATS, None]:
    """The bus of the stack."""
    connection = await nats.connect(
        storm.stage.stack.urls.nats, max_reconnect_attempts=-1, error_cb=_ignore
    )
    try:
        yield connection
    finally:
        await connection.close()


async def _ignore(_: Exception) -> None:
    """A server that is down is what this is about."""


@asynccontextmanager
async def jetstream(storm: Storm) -> AsyncGenerator[JetStreamContext, None]:
    """JetStream of the stack."""
    async with connected(storm) as connection:
        yield connection.jetstream()


async def purge(storm: Storm) -> None:
    """All streams of the task flow are emptied, three times."""
    async with jetstream(storm) as js:
        for _ in range(3):
            async with storm.wind.fault(f"purge {', '.join(FLOW)}"):
                for stream in FLOW:
                    await js.purge_stream(stream)
            await asyncio.sleep(8)


async def lost_messages(storm: Storm) -> None:
    """One message in twenty of the task flow is deleted from its stream, acknowledged or not."""
    until = asyncio.get_running_loop().time() + storm.seconds
    async with jetstream(storm) as js, storm.wind.fault("delete 5 % of the messages"):
        seen = dict.fromkeys(FLOW, 0)
        while asyncio.get_running_loop().time() < until:
            for stream in FLOW:
                state = (await js.stream_info(stream)).state
                for seq in range(max(seen[stream], state.first_seq), state.last_seq + 1):
                    if storm.chance.random() < 0.05:
                        with suppress(nats.js.errors.APIError):
                            await js.delete_msg(stream, seq)
                seen[stream] = state.last_seq + 1
            await asyncio.sleep(0.02)


async def streams_deleted(storm: Storm) -> None:
    """The streams of the task flow are deleted, then provisioned anew by the operator."""
    async with jetstream(storm) as js:
        async with storm.wind.fault("delete the streams, provision them after 5 s"):
            for stream in FLOW:
                with suppress(NotFoundError):
                    await js.delete_stream(stream)
            await asyncio.sleep(5)
            await provision(storm.stage)
        await asyncio.sleep(20)


async def nats_wiped(storm: Storm) -> None:
    """The data folder of NATS vanishes with the server; then the operator provisions anew."""
    stage = storm.stage
    folder = stage.points.parent / "nats"
    before = stage.stack.pids()["nats"]
    async with storm.wind.fault("wipe NATS, kill -9 it, provision when it is back"):
        folder.rename(folder.with_name("nats.gone"))
        stage.stack.kill("nats")
        await wait_until(lambda: stage.stack.pids()["nats"] != before, 60)
        await stage.all_ready()
        await provision(stage)
    shutil.rmtree(folder.with_name("nats.gone"))
    await asyncio.sleep(30)


async def bits_flipped(storm: Storm) -> None:
    """`kill -9` of NATS; a bit of each file that holds messages, or where they are, flips."""
    folder = storm.stage.points.parent / "nats"
    async with storm.wind.fault("kill -9 nats, flip a bit of each file of its streams"):
        storm.stage.stack.kill("nats")
        files = [path for path in folder.rglob("*") if path.suffix in (".blk", ".db")]
        assert sum(flip_a_bit(path, storm.chance) for path in files)
    await storm.stage.all_ready(120)
    await asyncio.sleep(storm.seconds)


def flip_a_bit(path: Path, chance: random.Random) -> bool:
    """Flip a bit of a file of a server that does not run; false when the file is empty or gone."""
    with suppress(FileNotFoundError):
        content = bytearray(path.read_bytes())
        if content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
            return True
    return False


async def provision(stage: Stage) -> None:
    """Run `octarm bus provision` and `octarm ledger reconcile --assume-empty`, as the runbook says.

    Again until they succeed, as an operator would.
    """
    urls = stage.stack.urls
    env = {**os.environ, "OCTARM_NATS_URL": urls.nats, "OCTARM_POSTGRES_URL": urls.postgres}
    for command in (("bus", "provision"), ("ledger", "reconcile", "--assume-empty")):
        for _ in range(20):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "octarm.cli", *command),
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            _, said = await process.communicate()
            if process.returncode == 0 or b"No such command" in said:
                break
            await asyncio.sleep(0.5)
        else:
            raise AssertionError(f"octarm {' '.join(command)}: {said.decode()}")


async def slow_fsync(storm: Storm) -> None:
    """Each fsync of Postgres takes 50 ms longer, for half a minute."""
    postmaster = psutil.Process(storm.stage.stack.pids()["postgres"])
    pids = [postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))]
    delay = "inject=fsync,fdatasync:delay_exit=50000"
    attach = [part for pid in pids for part in ("-p", str(pid))]
    async with storm.wind.fault("fsync + 50 ms for 30 s"):
        strace = await asyncio.create_subprocess_exec(
            *("strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", delay, *attach),
            stderr=subprocess.DEVNULL,
        )
        try:
            await asyncio.sleep(30)
        finally:
            strace.terminate()
            await strace.wait()
    await asyncio.sleep(5)


def disk_full(folder: str) -> Scenario:
    """The disk below a folder of the data is full for 20 s, then has room again.

    nats-server refuses to write from then on until it is restarted, so the operator does that.
    """

    async def scenario(storm: Storm) -> None:
        disk = storm.stage.points.parent / folder
        used = shutil.disk_usage(disk).used
        async with storm.wind.fault(f"disk full below data/{folder} for 20 s"):
            remount(disk, used + 256 * 1024)
            filler = disk / "filler"
            with suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(bytes(64 * 1024))
                    file.flush()
            await asyncio.sleep(20)
            remount(disk, DISK_BYTES)
            filler.unlink()
            storm.stage.signal("nats", signal.SIGTERM)
        await asyncio.sleep(20)

    return scenario


DISK_BYTES: Final = 16 * 1024**3


def remount(disk: Path, size_bytes: int) -> None:
    """Change how large a tmpfs is."""
    options = f"remount,size={size_bytes}"
    subprocess.run(["mount", "-o", options, str(disk)], check=True, timeout=10)


def clock_jumps(roles: Sequence[str]) -> Scenario:
    """The clock of one Python process after the other jumps: ± 5 min, + 1 day, - 1 h, and back."""

    async def scenario(storm: Storm) -> None:
        for role in roles:
            for offset in ("+300", "-300", "+86400", "-3600"):
                async with storm.wind.fault(f"clock of {role} {offset} s"):
                    clock_file(storm.stage.points.parent, role).write_text(offset)
                    await asyncio.sleep(4)
                    clock_file(storm.stage.points.parent, role).write_text("+0")
                await asyncio.sleep(1)

    return scenario


def clock_file(data: Path, role: str) -> Path:
    """Where libfaketime reads the offset of a role's clock."""
    return data.parent / f"clock-{role}"


PYTHON_ROLES: Final = ("arm-registry", "orchestrator", "scheduler", "memory", "gateway", NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A scenario with what it needs and what it promises."""

    scenario: Scenario
    seconds: float = 30.0
    rate: int = 100
    twice: tuple[str, ...] = ()
    """Roles that run as two processes."""
    disk: str | None = None
    """The folder of the data that lies on a disk of its own; "" is all of it."""
    faketime: bool = False
    cluster: bool = False
    """Three nats-servers on hosts of their own."""
    recovers_within_s: float = 25.0
    """From the end of a fault until a task that was handed in later has ended."""
    silent_within_s: float = float("inf")
    """The longest time without any end."""
    history_lost: bool = False
    """Whether it destroys the public history too."""
    context: Mapping[str, object] = field(default_factory=lambda: {"nap_s": NAP_S})
    """What each task is told, beside its number and whether it fails at first."""
    env: Mapping[str, str] = field(default_factory=dict)
    """For every process."""
    arms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Further arms like the one of the load, each with its environment."""
    look_after: bool = False
    """Whether what runs and does not live is started again, as Kubernetes would."""
    diary: bool = False
    """Whether episodes are written and read meanwhile."""


PLANS: Final[dict[str, Plan]] = {
    "calm": Plan(scenario=calm, recovers_within_s=1.0),
    "kill9": Plan(scenario=kill9, seconds=600.0, recovers_within_s=60.0),
    "kill-nats": Plan(scenario=killing("nats")),
    "kill-postgres": Plan(scenario=killing("postgres")),
    "ids-forgotten": Plan(scenario=ids_forgotten),
    "kill-redis": Plan(scenario=killing("redis"), recovers_within_s=1.0),
    "flush-redis": Plan(scenario=redis_flush, recovers_within_s=1.0),
    "pause-arm": Plan(scenario=pausing(NAME)),
    "pause-scheduler": Plan(scenario=pausing("scheduler"), twice=("scheduler",)),
    "pause-orchestrator": Plan(scenario=pausing("orchestrator"), twice=("orchestrator",)),
    "pause-nats": Plan(scenario=pausing("nats")),
    "pause-postgres": Plan(scenario=pausing("postgres")),
    "purge": Plan(scenario=purge),
    "lost-messages": Plan(scenario=lost_messages),
    "streams-deleted": Plan(scenario=streams_deleted, recovers_within_s=30.0),
    "nats-wiped": Plan(scenario=nats_wiped, recovers_within_s=30.0, history_lost=True),
    "bits-flipped": Plan(scenario=bits_flipped, recovers_within_s=30.0, history_lost=True),
    "disk-full-nats": Plan(scenario=disk_full("nats"), disk="nats", recovers_within_s=30.0),
    "disk-full-all": Plan(scenario=disk_full(""), disk="", recovers_within_s=60.0),
    "slow-fsync": Plan(scenario=slow_fsync),
    "clock": Plan(scenario=clock_jumps(PYTHON_ROLES), faketime=True),
}
