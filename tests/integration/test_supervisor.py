"""The supervisor over real servers and fake services: restarts, refusals, drains."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats
import psutil
import pytest

from octarm.cli.stack.commands import run_in_foreground
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.keeper import State
from octarm.cli.stack.services import Role, System
from octarm.cli.stack.supervisor import Options, Stack, running_stack
from tests.support.fake_service import JOURNAL
from tests.support.fake_system import a_fake_role, a_fake_system
from tests.support.wait import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
SERVERS = {"nats", "redis", "postgres"}
EVERYTHING = SERVERS | {"supervisor", "arm-registry", "orchestrator", "gateway", "echo"}


@dataclass
class Up:
    """A running `octarm up` over the fake system."""

    data: Path
    process: asyncio.subprocess.Process
    family: set[int] = field(default_factory=set)

    def state(self) -> dict[str, object]:
        """What up.json says; empty when it is not there."""
        try:
            return dict(json.loads((self.data / "up.json").read_text()))
        except FileNotFoundError:
            return {}

    def pids(self) -> dict[str, int]:
        pids = self.state().get("pids", {})
        assert isinstance(pids, dict)
        return pids

    async def ready(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(b"ready http://127.0.0.1:"):
                break
        root = psutil.Process(self.process.pid)
        self.family = {root.pid, *(child.pid for child in root.children(recursive=True))}

    def left_over(self) -> set[int]:
        return {pid for pid in self.family if psutil.pid_exists(pid)}


@asynccontextmanager
async def an_up(data: Path, *flags: str, **env: str) -> AsyncGenerator[Up, None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.fake_system", str(data), *flags),
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Up(data, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class TestUp:
    async def test_tells_the_urls_and_every_process_once_it_is_ready(self, tmp_path: Path) -> None:
        async with an_up(tmp_path) as up:
            await up.ready()

            state = up.state()
            assert set(up.pids()) == EVERYTHING
            assert up.pids()["supervisor"] == up.process.pid
            assert set(state) == {"gateway", "nats", "redis", "postgres", "pids", "version"}
            assert stat.S_IMODE((tmp_path / "up.json").stat().st_mode) == 0o600
            connection = await nats.connect(str(state["nats"]))
            await connection.close()

    async def test_leaves_no_process_and_no_up_file_after_sigterm(self, tmp_path: Path) -> None:
        async with an_up(tmp_path) as up:
            await up.ready()

            up.process.terminate()
            exit_code = await asyncio.wait_for(up.process.wait(), 60)

            assert exit_code == 0
            assert len(up.family) >= len(EVERYTHING)
            await wait_until(lambda: not up.left_over())
            assert up.state() == {}

    async def test_drains_arms_then_the_gateway_then_the_services(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        async with an_up(tmp_path / "data", **{JOURNAL: str(journal)}) as up:
            await up.ready()

            up.process.send_signal(signal.SIGINT)
            await asyncio.wait_for(up.process.wait(), 60)

        first, second, *others = journal.read_text().splitlines()
        assert (first, second) == ("echo leaves", "gateway leaves")
        assert sorted(others) == ["arm-registry leaves", "orchestrator leaves"]

    @pytest.mark.bad_input(30)
    async def test_a_second_signal_during_the_drain_forces_the_end(self, tmp_path: Path) -> None:
        async with an_up(tmp_path, "--stubborn", "gateway") as up:
            await up.ready()
            up.process.terminate()
            await wait_until(lambda: not psutil.pid_exists(up.pids().get("echo", 0)))

            up.process.terminate()
            exit_code = await asyncio.wait_for(up.process.wait(), 60)

            assert exit_code == 130
            await wait_until(lambda: not up.left_over())

    async def test_passes_sighup_on_to_the_services(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        async with an_up(tmp_path / "data", **{JOURNAL: str(journal)}) as up:
            await up.ready()

            up.process.send_signal(signal.SIGHUP)

            await wait_until(lambda: journal.exists() and "gateway reloads" in journal.read_text())

    async def test_a_signal_during_the_start_ends_it_cleanly(self, tmp_path: Path) -> None:
        async with an_up(tmp_path) as up:
            assert up.process.stdout is not None
            await up.process.stdout.readline()  # the first server is ready

            up.process.terminate()

            assert await asyncio.wait_for(up.process.wait(), 60) == 0
            assert not psutil.pid_exists(up.process.pid)

    async def test_goes_on_when_nobody_reads_what_it_prints(self, tmp_path: Path) -> None:
        reading, writing = os.pipe()
        up = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.fake_system", str(tmp_path)),
            cwd=ROOT,
            stdout=writing,
        )
        os.close(writing)
        os.close(reading)
        await wait_until(lambda: (tmp_path / "up.json").exists(), timeout_s=30)

        up.terminate()

        assert await asyncio.wait_for(up.wait(), 60) == 0

    async def test_no_process_outlives_a_killed_supervisor(self, tmp_path: Path) -> None:
        async with an_up(tmp_path) as up:
            await up.ready()

            up.process.kill()
            await up.process.wait()

            await wait_until(lambda: not up.left_over(), timeout_s=10)


class TestForeground:
    def test_drains_when_its_own_process_is_told_to_end(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = Options(data=tmp_path, system=a_fake_system(), arms=(a_fake_role("echo"),))
        signaller = threading.Thread(target=_end_me_when_ready, args=(tmp_path,))
        signaller.start()

        exit_code = run_in_foreground(options)

        signaller.join()
        first, *_, last = capsys.readouterr().out.splitlines()
        assert (exit_code, last) == (0, "stopped")
        assert "ready (process" in first
        assert list(tmp_path.glob("up.json*")) == []

    def test_says_on_stderr_why_it_cannot_start(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        missing = Role("gateway", (str(tmp_path / "no-such-program"),))
        system = System(preparations=(), services=(missing,))

        exit_code = run_in_foreground(Options(data=tmp_path, system=system))

        error, hint = capsys.readouterr().err.splitlines()
        assert exit_code == 1
        assert error.startswith("error: gateway cannot be executed")
        assert hint.startswith("hint: ")


class TestSecondUp:
    async def test_is_refused_while_the_first_runs(self, tmp_path: Path) -> None:
        async with an_up(tmp_path) as first:
            await first.ready()

            async with an_up(tmp_path) as second:
                _, complaint = await asyncio.wait_for(second.process.communicate(), 60)

            assert second.process.returncode == 1
            assert f"process {first.process.pid} already runs" in complaint.decode()
            assert set(first.pids()) == EVERYTHING

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
    async def test_continues_on_the_data_of_the_first(
        self, how: signal.Signals, tmp_path: Path
    ) -> None:
        async with an_up(tmp_path) as first:
            await first.ready()
            await _store(str(first.state()["nats"]))
            first.process.send_signal(how)
            await asyncio.wait_for(first.process.wait(), 60)

        async with an_up(tmp_path) as second:
            await second.ready()

            assert await _stored(str(second.state()["nats"])) == 1


class TestRefusals:
    @pytest.mark.bad_input(29)
    async def test_says_in_one_line_that_the_port_is_in_use(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            async with an_up(tmp_path, "--http-port", str(port)) as up:
                _, complaint = await asyncio.wait_for(up.process.communicate(), 60)

        assert up.process.returncode == 1
        assert complaint.decode().splitlines()[0] == f"error: port {port} is in use"

    async def test_ends_everything_when_a_service_does_not_start(self, tmp_path: Path) -> None:
        async with an_up(tmp_path, "--fail", "orchestrator") as up:
            _, complaint = await asyncio.wait_for(up.process.communicate(), 60)

        assert up.process.returncode == 1
        assert "orchestrator" in complaint.decode()
        assert "the flux is out of alignment" in complaint.decode()

    async def test_names_the_variables_that_existing_servers_need(self, tmp_path: Path) -> None:
        stack = Stack(Options(data=tmp_path, own_servers=False, env={"OCTARM_NATS_URL": ""}))

        with pytest.raises(StackError, match="OCTARM_NATS_URL"):
            await stack.start()


class TestRestarts:
    @pytest.mark.parametrize("role", ["gateway", "orchestrator", "echo", "nats", "redis"])
    async def test_a_killed_process_comes_back_where_it_was(
        self, role: str, tmp_path: Path
    ) -> None:
        async with running_stack(
            tmp_path, system=a_fake_system(), extra_arms={"echo": a_fake_role("echo").argv}
        ) as stack:
            urls, first = stack.urls, stack.pids()

            stack.kill(role)

            await wait_until(
                lambda: stack.pids()[role] != first[role] and _is_ready(stack, role), timeout_s=20
            )
            assert stack.urls == urls
            others = {name: pid for name, pid in stack.pids().items() if name != role}
            assert others == {name: pid for name, pid in first.items() if name != role}
            up_file = json.loads((tmp_path / "up.json").read_text())
            assert up_file["pids"] == stack.pids()

    async def test_a_disk_that_takes_nothing_does_not_end_the_keeping(self, tmp_path: Path) -> None:
        async with running_stack(tmp_path, system=a_fake_system()) as stack:
            first = stack.pids()["orchestrator"]
            (tmp_path / "up.json.unfinished").mkdir()

            stack.kill("orchestrator")

            await wait_until(
                lambda: stack.pids()["orchestrator"] != first and _is_ready(stack, "orchestrator"),
                timeout_s=20,
            )

    async def test_postgres_comes_back_after_its_last_backend_has_noticed(
        self, tmp_path: Path
    ) -> None:
        async with running_stack(tmp_path, system=a_fake_system()) as stack:
            first = stack.pids()["postgres"]

            stack.kill("postgres")

            await wait_until(
                lambda: stack.pids()["postgres"] != first and _is_ready(stack, "postgres"),
                timeout_s=20,
            )


def _end_me_when_ready(data: Path) -> None:
    give_up_at = time.monotonic() + 240
    while time.monotonic() < give_up_at:
        if (data / "up.json").exists():
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(0.05)


def _is_ready(stack: Stack, role: str) -> bool:
    return next(k for k in stack.keepers if k.name == role).state is State.READY


async def _store(url: str) -> None:
    connection = await nats.connect(url)
    stream = connection.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"1")
    await connection.close()


async def _stored(url: str) -> int:
    connection = await nats.connect(url)
    info = await connection.jetstream().stream_info("KEPT")
    await connection.close()
    return info.state.messages
