"""The sandbox, attacked for real."""

import asyncio
import contextlib
import os
import shutil
import socket
import time
from pathlib import Path

import psutil
import pytest

from octarm.executor.limits import Limits
from octarm.executor.sandbox import CannotIsolate, Sandbox
from tests.support.sandbox_jobs import a_command, a_shell_line, a_snippet
from tests.support.wait import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
SHORT = Limits(wall_s=10, cpu_s=5)
WEIRD = (
    "'; DROP TABLE task; --",
    "octarm.v1.>.* \r\nNats-Rollup: all",
    "$(id) `id` ${HOME} && id | id ; id > x",
    "\u202eevil\u202c \u200b\u200d\ufeff zero width",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "%s %n {0} {{7*7}} \\x41 \\u0041",
    "🦑 é 漢字 \U0010ffff",
)


def processes_with(marker: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any(marker in word for word in process.info["cmdline"] or ()):
            found.append(process.info["pid"])
    return found


def ours() -> int:
    """How many processes have come from this one; others may start theirs beside it."""
    return len(psutil.Process().children(recursive=True))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestWhatAProgramGets:
    async def test_runs_a_command_with_its_arguments_as_they_are(self) -> None:
        outcome = await Sandbox().run(a_command("printf", "%s|", "a b", "$HOME", "*"), SHORT)

        assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("a b|$HOME|*|", "", 0)
        assert outcome.limit is None

    async def test_runs_a_shell_line_and_gives_its_exit_code(self) -> None:
        outcome = await Sandbox().run(a_shell_line("echo out; echo err >&2; exit 3"), SHORT)

        assert (outcome.stdout, outcome.stderr, outcome.exit_code) == ("out\n", "err\n", 3)

    async def test_runs_a_snippet_with_the_python_in_use(self) -> None:
        snippet = "import sys, ssl, json, sqlite3; print(sys.version)"

        outcome = await Sandbox().run(a_snippet(snippet), SHORT)

        assert outcome.stderr == ""
        assert outcome.stdout.strip() == __import__("sys").version

    async def test_puts_the_given_files_into_an_otherwise_empty_working_folder(self) -> None:
        files = {"a b.txt": "é\n".encode(), "mod.py": b"X = 41 + 1"}
        snippet = "import os, mod; print(sorted(os.listdir()), open('a b.txt').read(), mod.X)"

        outcome = await Sandbox().run(a_snippet(snippet, files), SHORT)

        assert outcome.stderr == ""
        assert outcome.stdout == "['a b.txt', 'mod.py'] é\n 42\n"

    async def test_may_write_and_delete_in_its_folder(self) -> None:
        line = "echo more >> given && mkdir d && mv given d/ && cat d/given && rm -r d && pwd"

        outcome = await Sandbox().run(a_shell_line(line, {"given": b"text\n"}), SHORT)

        assert (outcome.stdout, outcome.exit_code) == ("text\nmore\n/tmp\n", 0)

    async def test_names_a_program_that_does_not_exist(self) -> None:
        outcome = await Sandbox().run(a_command("no-such-program"), SHORT)

        assert outcome.exit_code == 127
        assert "no-such-program" in outcome.stderr

    async def test_reports_a_program_that_a_signal_ended_as_the_shell_does(self) -> None:
        outcome = await Sandbox().run(a_shell_line("kill -SEGV $$"), SHORT)

        assert outcome.exit_code == 128 + 11

    @pytest.mark.parametrize("text", WEIRD)
    async def test_passes_any_text_through_verbatim(self, text: str) -> None:
        argument = await Sandbox().run(a_command("printf", "%s", text), SHORT)
        content = await Sandbox().run(a_shell_line("cat f", {"f": text.encode()}), SHORT)
        snippet = await Sandbox().run(a_snippet(f"print({text!r}, end='')"), SHORT)

        assert argument.stdout == content.stdout == snippet.stdout == text

    async def test_decodes_output_that_is_not_utf_8_with_replacement(self) -> None:
        outcome = await Sandbox().run(a_shell_line(r"printf 'a\377b\000c'"), SHORT)

        assert outcome.stdout == "a\ufffdb\0c"

    async def test_has_no_input_and_no_environment_of_the_host(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OCTARM_LLM_API_KEY", "sk-very-secret")

        outcome = await Sandbox().run(a_shell_line("cat; env; cat /proc/*/environ"), SHORT)

        assert "very-secret" not in outcome.stdout + outcome.stderr
        assert "OCTARM" not in outcome.stdout


class TestWhatAProgramCannotReach:
    async def test_has_no_network(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as canary:
            port = canary.getsockname()[1]
            snippet = (
                "import socket, os\n"
                "print(os.listdir('/sys/class/net') if os.path.exists('/sys') else 'no sys')\n"
                f"for host in ('127.0.0.1', '::1', '192.0.2.1'):\n"
                "    try:\n"
                f"        socket.create_connection((host, {port}), 2); print('CONNECTED')\n"
                "    except OSError as e:\n"
                "        print(type(e).__name__)\n"
            )

            outcome = await Sandbox().run(a_snippet(snippet), SHORT)

            assert "CONNECTED" not in outcome.stdout
            assert outcome.stdout.count("Error") == 3
            canary.setblocking(False)
            with pytest.raises(BlockingIOError):
                canary.accept()

    async def test_cannot_open_sockets_that_leave_the_network_namespace(self) -> None:
        snippet = (
            "import socket\n"
            "for family in (40, 17, 38):  # VM, packet, kernel crypto\n"
            "    try:\n"
            "        socket.socket(family, socket.SOCK_STREAM); print('OPEN')\n"
            "    except OSError as e:\n"
            "        print(e.errno)\n"
        )

        outcome = await Sandbox().run(a_snippet(snippet), SHORT)

        assert outcome.stdout.split() == ["1", "1", "1"]

    async def test_does_not_see_the_hosts_abstract_sockets(self) -> None:
        name = f"\0octarm-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as canary:
            canary.bind(name)
            canary.listen()
            snippet = f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})"

            outcome = await Sandbox().run(a_snippet(snippet), SHORT)

        assert "ConnectionRefusedError" in outcome.stderr

    @pytest.mark.parametrize(
        "path",
        ["/etc/shadow", "/etc/hostname", "/root", "/home", "/run", "/var", "/srv", "/mnt", "/sys"],
    )
    async def test_does_not_see_the_hosts_folders(self, path: str) -> None:
        outcome = await Sandbox().run(a_command("ls", "-d", path), SHORT)

        assert outcome.exit_code == 2
        assert "No such file or directory" in outcome.stderr

    async def test_cannot_read_the_callers_home_and_temporary_files(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.txt"
        secret.write_text("hunter2")
        home = Path.home()
        here = Path(__file__)

        line = f"cat {secret}; ls {home}; cat {here}; find / -name secret.txt 2>/dev/null; true"
        outcome = await Sandbox().run(a_shell_line(line), SHORT)

        assert outcome.stdout == ""
        assert outcome.stderr.count("No such file") == 3

    @pytest.mark.parametrize("where", ["/x", "/usr/x", "/etc/x", "/etc/passwd", "/dev/x", "/opt/x"])
    async def test_cannot_write_outside_its_folder(self, where: str) -> None:
        line = f"echo x > {where} || touch {where}"

        outcome = await Sandbox().run(a_shell_line(line), SHORT)

        assert outcome.exit_code != 0

    async def test_is_nobody_in_particular_and_can_become_nobody_else(self) -> None:
        line = (
            "id -u; grep -E 'Cap(Eff|Bnd|Prm)|NoNewPrivs' /proc/self/status; "
            "unshare -Ur id; unshare -n true; mount -t tmpfs x /tmp; chroot / id; su -c id"
        )

        outcome = await Sandbox().run(a_shell_line(line), SHORT)

        lines = outcome.stdout.split("\n")
        assert int(lines[0]) >= 200_000
        assert [line.split()[1] for line in lines[1:5]] == ["0" * 16, "0" * 16, "0" * 16, "1"]
        assert "uid=0" not in outcome.stdout

    async def test_sees_only_its_own_processes(self) -> None:
        snippet = (
            "import os, signal\n"
            "print(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))\n"
            f"for pid in ({os.getpid()}, {os.getppid()}):\n"
            "    try: os.kill(pid, signal.SIGKILL); print('KILLED')\n"
            "    except ProcessLookupError: print('none')\n"
        )

        outcome = await Sandbox().run(a_snippet(snippet), SHORT)

        assert outcome.stdout.splitlines()[1:] == ["none", "none"]
        assert len(outcome.stdout.splitlines()[0].split(",")) <= 3

    async def test_symbolic_links_lead_nowhere(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.txt"
        secret.write_text("hunter2")
        line = (
            f"ln -s {secret} l1; ln -s /proc/1/root/etc/shadow l2; ln -s /proc/1/cwd{secret} l3; "
            f"ln -s ../../../../../..{secret} l4; ln -s /dev/fd/9 l5; ln /usr/bin/env hard; "
            "for l in l1 l2 l3 l4 l5; do cat $l; done; ls -l /proc/self/fd; echo x > l1"
        )

        outcome = await Sandbox().run(a_shell_line(line), SHORT)

        assert "hunter2" not in outcome.stdout
        assert "root:" not in outcome.stdout
        assert secret.read_text() == "hunter2"

    async def test_inherits_no_open_files_of_the_arm(self, tmp_path: Path) -> None:
        with (tmp_path / "open.txt").open("w") as file:
            os.set_inheritable(file.fileno(), True)

            outcome = await Sandbox().run(a_shell_line("ls /proc/self/fd | wc -l"), SHORT)

        assert int(outcome.stdout) <= 4  # 0, 1, 2 and the listing itself

    async def test_two_runs_do_not_meet(self) -> None:
        first, second = await asyncio.gather(
            Sandbox().run(a_shell_line("echo one > f; sleep 0.3; ls; id -u"), SHORT),
            Sandbox().run(a_shell_line("sleep 0.1; ls; ls /dev/shm; id -u"), SHORT),
        )

        assert first.stdout.startswith("f\n")
        assert second.stdout.strip().isdigit()


class TestLimits:
    async def test_stops_an_infinite_loop_at_the_wall_clock(self) -> None:
        outcome = await Sandbox().run(a_shell_line("sleep 60"), Limits(wall_s=0.5))

        assert outcome.limit == "time"
        assert outcome.exit_code == 137
        assert 500 <= outcome.duration_ms < 30_000

    async def test_stops_an_infinite_loop_at_its_processor_time(self) -> None:
        outcome = await Sandbox().run(a_snippet("while True: pass"), Limits(wall_s=20, cpu_s=1))

        assert outcome.limit == "cpu"

    async def test_bounds_a_fork_bomb(self) -> None:
        marker = f"octarm-bomb-{time.monotonic_ns()}"
        snippet = (
            f"import os\n'{marker}'\nwhile True:\n    try: os.fork()\n    except OSError: pass"
        )
        most = 0

        async def count() -> None:
            nonlocal most
            while True:
                most = max(most, ours())
                await asyncio.sleep(0.1)

        before = ours()
        counting = asyncio.create_task(count())
        outcome = await Sandbox().run(a_snippet(snippet), Limits(wall_s=2, cpu_s=1, processes=20))
        counting.cancel()

        assert outcome.limit in {"time", "cpu"}
        assert before < most < before + 100
        await wait_until(lambda: ours() <= before)

    async def test_bounds_memory_however_many_processes_share_it(self) -> None:
        snippet = (
            "import os, time\n"
            "for _ in range(7): os.fork() if _ < 3 else None\n"
            "x = bytearray(30_000_000)\n"
            "x[::4096] = b'x' * len(x[::4096])\n"
            "time.sleep(5)\n"
        )

        outcome = await Sandbox().run(a_snippet(snippet), Limits(wall_s=8, memory_mib=128))

        assert outcome.limit == "memory"

    async def test_bounds_the_memory_of_one_process(self) -> None:
        greedy = "x = []\nwhile True: x.append(bytearray(1_000_000))"

        outcome = await Sandbox().run(a_snippet(greedy), Limits(wall_s=10, memory_mib=64))

        assert outcome.limit == "memory" or "MemoryError" in outcome.stderr
        assert outcome.exit_code != 0

    async def test_keeps_the_start_of_long_output_and_lets_the_program_finish(self) -> None:
        snippet = "import sys\nprint('x' * 200_000)\nsys.stderr.write('e' * 100)\n"

        outcome = await Sandbox().run(a_snippet(snippet), Limits(output_bytes=1000))

        assert outcome.stdout == "x" * 1000
        assert (outcome.stdout_truncated, outcome.stderr_truncated) == (True, False)
        assert (outcome.exit_code, outcome.limit) == (0, None)

    async def test_stops_endless_output_and_keeps_its_own_memory_flat(self) -> None:
        before = psutil.Process().memory_info().rss

        outcome = await Sandbox().run(a_shell_line("yes"), Limits(flood_bytes=50_000_000))

        assert outcome.limit == "output"
        assert len(outcome.stdout) == Limits().output_bytes
        assert psutil.Process().memory_info().rss - before < 20_000_000

    async def test_bounds_the_size_of_its_folder(self) -> None:
        line = "dd if=/dev/zero of=a bs=1M count=9; dd if=/dev/zero of=b bs=1M count=9; du -sm ."

        outcome = await Sandbox().run(a_shell_line(line), Limits(work_mib=10))

        assert "No space left on device" in outcome.stderr
        assert int(outcome.stdout.split()[0]) <= 11

    async def test_bounds_the_number_of_files(self) -> None:
        snippet = "for i in range(10**7): open(str(i), 'w').close()"

        outcome = await Sandbox().run(a_snippet(snippet), Limits(wall_s=10, files=1000))

        assert outcome.limit == "files"


class TestEnding:
    async def test_takes_background_children_along(self) -> None:
        marker = f"octarm-{time.monotonic_ns()}"
        line = f"(setsid sh -c 'trap \"\" TERM HUP; sleep 30; : {marker}' &) ; echo started"

        outcome = await Sandbox().run(a_shell_line(line), SHORT)

        assert outcome.stdout == "started\n"
        assert outcome.duration_ms < 25_000
        await wait_until(lambda: not processes_with(marker))

    async def test_leaves_nothing_when_the_caller_is_cancelled(self) -> None:
        marker = f"octarm-{time.monotonic_ns()}"
        line = f"trap '' TERM INT; while :; do sleep 1; : {marker}; done"
        run = asyncio.create_task(Sandbox().run(a_shell_line(line), Limits(wall_s=120)))
        await wait_until(lambda: processes_with(marker))

        started = time.monotonic()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

        assert time.monotonic() - started < 100
        await wait_until(lambda: not processes_with(marker))

    async def test_leaves_nothing_whenever_it_is_cancelled(self) -> None:
        marker = f"octarm-{time.monotonic_ns()}"
        job = a_shell_line(f"trap '' TERM INT; while :; do sleep 1; : {marker}; done")

        async def cancelled_after(seconds: float) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await Sandbox().run(job, SHORT)

        for first in range(0, 40, 4):
            await asyncio.gather(*(cancelled_after((first + n) / 2000) for n in range(4)))

        await wait_until(lambda: not processes_with(marker))

    @pytest.mark.parametrize("wall_s", [0.001, 0.004, 0.008])
    async def test_a_limit_that_is_hit_while_it_starts_ends_it_too(self, wall_s: float) -> None:
        marker = f"octarm-{time.monotonic_ns()}"

        outcome = await Sandbox().run(a_shell_line(f"sleep 30; : {marker}"), Limits(wall_s=wall_s))

        assert outcome.limit == "time"
        await wait_until(lambda: not processes_with(marker))

    async def test_leaves_no_descriptor_open(self) -> None:
        await Sandbox().run(a_shell_line("true", {"f": b"x"}), SHORT)
        before = open_descriptors()

        for _ in range(5):
            await Sandbox().run(a_shell_line("true", {"f": b"x"}), SHORT)

        assert open_descriptors() <= before


class TestCheck:
    async def test_finds_that_the_sandbox_works_here(self) -> None:
        await Sandbox().check()

    async def test_names_what_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "defpath", "/nonexistent")

        with pytest.raises(CannotIsolate, match=r"bwrap.*--unsafe"):
            await Sandbox().check()
