"""The chaos driver: `python -m tests.chaos.drive SCENARIO` starts a stack, breaks it, counts.

It needs nothing but this repository; what a scenario cannot do on this machine it says and skips
(exit code 77). Exit code 0: all promises kept, 1: not.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from octarm.cli.stack.servers import postgres_server, redis_server
from octarm.cli.stack.services import OCTARM, Role, System, module
from octarm.sdk import Client
from octarm.verify.history import HistoryWriter
from tests.chaos.audit import Audit, audit
from tests.chaos.cluster import URL, Cluster, a_cluster
from tests.chaos.cluster_faults import CLUSTER_PLANS
from tests.chaos.diary import Diary
from tests.chaos.faults import DISK_BYTES, PLANS, WARM_UP_S, Plan, Storm, clock_file
from tests.chaos.flaps import FLAP_PLANS
from tests.chaos.hosts import Hosts, hosts, why_no_hosts
from tests.chaos.load import Load
from tests.chaos.memory_faults import MEMORY_PLANS
from tests.chaos.poisons import POISON_PLANS
from tests.chaos.redriving import REDRIVE_PLANS
from tests.chaos.slowness import SLOW_PLANS
from tests.chaos.stage import ARM, Stage, a_stage
from tests.chaos.wind import Wind
from tests.support.crashing_arm import NAME
from tests.support.servers import running

ALL: Final = (
    PLANS | POISON_PLANS | SLOW_PLANS | FLAP_PLANS | REDRIVE_PLANS | MEMORY_PLANS | CLUSTER_PLANS
)
# The name of the hosts that were made, told to the driver that runs in the hub.
HOSTS: Final = "CHAOS_HOSTS"
EVERY: Final = "all"
SKIPPED: Final = 77
ENDS_WITHIN_S: Final = 240.0
FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def why_not(plan: Plan) -> str | None:
    """What this machine lacks for a scenario; None when it can run."""
    if plan.disk is not None and os.geteuid() != 0:
        return "only root may mount a small disk"
    if plan.faketime and not FAKETIME.exists():
        return "libfaketime is missing (Debian: apt-get install libfaketime)"
    if plan is PLANS["slow-fsync"] and shutil.which("strace") is None:
        return "strace is missing (Debian: apt-get install strace)"
    return why_no_hosts() if plan.cluster and HOSTS not in os.environ else None


async def run(plan: Plan, data: Path, chance: random.Random) -> tuple[Wind, Audit]:
    """Run one scenario and give its figures."""
    path = data.parent / "history.jsonl"
    with a_disk(data, plan), HistoryWriter(path, process="wind") as history:
        async with _stage(data, plan) as (stage, cluster), Client(stage.stack.urls.nats) as client:
            wind = Wind(Load(client, history), plan.rate, dict(plan.context))
            stop = asyncio.Event()
            diary = Diary(stage.stack.urls) if plan.diary else None
            blowing = [asyncio.create_task(wind.blow(stop))]
            if diary is not None:
                blowing.append(asyncio.create_task(diary.write(stop)))
            try:
                await asyncio.sleep(WARM_UP_S)
                storm = Storm(stage, wind, plan.seconds, chance, diary=diary, cluster=cluster)
                await plan.scenario(storm)
                await asyncio.sleep(WARM_UP_S)
                stop.set()
                await asyncio.gather(*blowing)
            finally:
                for task in blowing:
                    task.cancel()
                await asyncio.wait(blowing)
            await stage.all_ready(120)
            if diary is not None:
                await diary.check()
            await wind.load.all_ended(ENDS_WITHIN_S)
            history.close()
            ids = wind.load.ids
            found = await audit(
                stage.stack.urls,
                ids,
                histories=[path],
                effects=stage.sink,
                history_lost=plan.history_lost,
                diary=diary,
            )
    return wind, found


@asynccontextmanager
async def _stage(data: Path, plan: Plan) -> AsyncGenerator[tuple[Stage, Cluster | None], None]:
    async with AsyncExitStack() as opened:
        cluster = await _cluster(opened, data) if plan.cluster else None
        env = await _servers(opened, data) if cluster else None
        stage = a_stage(
            data,
            system=_system(data, plan),
            arm=_arm(data, plan),
            servers=env,
            env=plan.env,
            others=plan.arms,
            look_after=plan.look_after,
        )
        ready = await opened.enter_async_context(stage)
        await ready.all_ready()
        yield ready, cluster


async def _cluster(opened: AsyncExitStack, data: Path) -> Cluster:
    hosts = Hosts(os.environ[HOSTS])
    return await opened.enter_async_context(a_cluster(hosts, data))


async def _servers(opened: AsyncExitStack, data: Path) -> dict[str, str]:
    """Redis and Postgres of our own beside the cluster; gives where everything is."""
    redis, postgres = redis_server(data), postgres_server(data)
    return {
        "OCTARM_NATS_URL": URL,
        "OCTARM_REDIS_URL": await opened.enter_async_context(running(redis)),
        "OCTARM_POSTGRES_URL": await opened.enter_async_context(running(postgres)),
    }


def _system(data: Path, plan: Plan) -> System:
    roles = [*OCTARM.services[:-1]]
    roles += [Role(f"{role.name}-2", role.argv) for role in roles if role.name in plan.twice]
    services = tuple(_with_a_clock(role, data, plan) for role in (*roles, OCTARM.services[-1]))
    if not plan.cluster:
        return System(OCTARM.preparations, services)
    threefold = ("bus", "provision", "--replicas", "3")
    provision = module("provision-bus", "octarm.cli", *threefold)
    return System((*OCTARM.preparations[:-1], provision), services)


def _arm(data: Path, plan: Plan) -> tuple[str, ...]:
    return _with_a_clock(Role(NAME, ARM), data, plan).argv


def _with_a_clock(role: Role, data: Path, plan: Plan) -> Role:
    """Let libfaketime read the role's clock from a file; monotonic clocks are left alone."""
    if not plan.faketime:
        return role
    file = clock_file(data, role.name)
    file.write_text("+0")
    settings = (
        f"LD_PRELOAD={FAKETIME}",
        f"FAKETIME_TIMESTAMP_FILE={file}",
        "FAKETIME_CACHE_DURATION=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    )
    return Role(role.name, ("env", *settings, *role.argv))


@contextmanager
def a_disk(data: Path, plan: Plan) -> Iterator[None]:
    """Mount a disk of its own where the plan wants one."""
    if plan.disk is None:
        yield
        return
    disk = data / plan.disk
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "octarm-chaos", str(disk)]
    subprocess.run(mount, check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=10)


def tell(name: str, plan: Plan, wind: Wind, found: Audit) -> bool:
    """Print the figures; gives whether the promises were kept."""
    load = wind.load
    span_s = wind.over - wind.began
    rate = sum(end <= wind.over for end in load.ended.values()) / span_s
    promises = {
        "accepted": f"{len(load.ids)} of {wind.handed_in} handed in",
        "terminal": ", ".join(f"{number} {state}" for state, number in found.states.items()),
        "attempts a task": f"{found.attempts:.3f}",
        "goodput": f"{rate:.1f} a second = {100 * wind.goodput:.1f} % of what was handed in",
        "recovery": f"{wind.recovery_s:.1f} s (longest silence {wind.silence_s:.1f} s)",
        "faults": f"{len(wind.faults)} in {span_s:.0f} s",
        "quiet after": f"{found.quiet_s:.1f} s",
        "checker": "clean" if not found.breaks else "BROKEN",
        **wind.figures,
    }
    print(f"\n{name}")
    if found.diary is not None:
        promises["episodes"] = str(found.diary)
    for what, figure in promises.items():
        print(f"  {what:16} {figure}")
    for sentence in (*found.breaks, *wind.breaks):
        print(f"  ! {sentence}")
    late = wind.recovery_s > plan.recovers_within_s or wind.silence_s > plan.silent_within_s
    if late:
        print(
            f"  ! promised: recovery {plan.recovers_within_s} s, silence {plan.silent_within_s} s"
        )
    if wind.refused:
        print(f"  ! {wind.refused} were never answered")
    return not (found.breaks or wind.breaks or late or wind.refused)


def in_the_hub() -> int:
    """Make hosts, and run this same command in their hub; gives its exit code."""
    with hosts() as made:
        again = [sys.executable, "-m", "tests.chaos.drive", *sys.argv[1:]]
        command = ["ip", "netns", "exec", made.hub, *again]
        return subprocess.run(command, env={**os.environ, HOSTS: made.name}, check=False).returncode


def every_one(arguments: list[str]) -> int:
    """Run all scenarios one after the other; gives 0 when each that could run kept its word."""
    words = {0: "kept", SKIPPED: "skipped"}
    codes = {}
    for name in ALL:
        command = [sys.executable, "-m", "tests.chaos.drive", name, *arguments]
        codes[name] = subprocess.run(command, check=False).returncode
    print(
        "\n" + "\n".join(f"{name:24} {words.get(code, 'BROKEN')}" for name, code in codes.items())
    )
    return 0 if set(codes.values()) <= words.keys() else 1


def main() -> int:
    """Run a scenario from the command line; gives its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=[*ALL, EVERY])
    parser.add_argument("--seconds", type=float, help="how long what can be long lasts")
    parser.add_argument("--rate", type=int, help="tasks a second")
    parser.add_argument("--seed", type=int, default=1, help="what is random repeats with it")
    parser.add_argument("--keep", action="store_true", help="keep the data folder and its logs")
    given = parser.parse_args()
    # Hosts and disks are to be removed however we end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if given.scenario == EVERY:
        return every_one([argument for argument in sys.argv[1:] if argument != EVERY])
    plan = ALL[given.scenario]
    if (reason := why_not(plan)) is not None:
        print(f"{given.scenario} skipped: {reason}")
        return SKIPPED
    if plan.cluster and HOSTS not in os.environ:
        return in_the_hub()
    changes = {"seconds": given.seconds, "rate": given.rate}
    plan = replace(plan, **{key: value for key, value in changes.items() if value is not None})
    folder = Path(tempfile.mkdtemp(prefix="octarm-chaos-"))
    print(f"{given.scenario}: {plan.rate} tasks a second, data in {folder}")
    try:
        wind, found = asyncio.run(run(plan, folder / "data", random.Random(given.seed)))
        return 0 if tell(given.scenario, plan, wind, found) else 1
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
