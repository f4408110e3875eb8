"""The parts of the embedded stack that need no process."""

import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from octarm.cli.stack import arms, binaries, doctor, services, unprivileged
from octarm.cli.stack.children import Command, last_line
from octarm.cli.stack.commands import counts_of, up
from octarm.cli.stack.commands import doctor as doctor_command
from octarm.cli.stack.doctor import Verdict
from octarm.cli.stack.errors import StackError
from octarm.cli.stack.keeper import Backoff, Keeper
from octarm.cli.stack.redis import RedisRecipe
from octarm.cli.stack.servers import Server
from octarm.cli.stack.services import Role, replicated
from octarm.cli.stack.upfile import Urls, holding, remove_up_file, rotate_logs, write_up_file
from octarm.cli.stack.view import LiveView

app = typer.Typer()
app.command()(up)
app.command()(doctor_command)
URLS = Urls(gateway="http://g", nats="nats://n", redis="redis://r", postgres="postgresql://p")


class TestBackoff:
    def test_doubles_up_to_the_longest_pause(self) -> None:
        backoff = Backoff()

        pauses = [backoff.pause_s(healthy_for_s=1) for _ in range(8)]

        assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]

    def test_begins_anew_after_thirty_healthy_seconds(self) -> None:
        backoff = Backoff()
        for _ in range(5):
            backoff.pause_s(healthy_for_s=0)

        assert backoff.pause_s(healthy_for_s=29.9) == 6.4
        assert backoff.pause_s(healthy_for_s=30) == 0.2


class TestServer:
    async def test_a_disk_that_is_full_is_a_failed_start_that_may_be_tried_again(self) -> None:
        class NoSpace(RedisRecipe):
            async def prepare(self, port: int) -> Command:
                raise OSError(28, "No space left on device")

        with pytest.raises(StackError, match="redis cannot be prepared"):
            await Server(NoSpace(Path("/nowhere"))).start()


class TestBinaries:
    def test_takes_the_program_on_path_when_it_is_new_enough(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = _a_program(tmp_path / "nats-server", "nats-server: v2.12.1")
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

        found = binaries.find_nats_server()

        assert (found.path, found.version) == (own, (2, 12, 1))

    def test_takes_the_wheel_when_the_program_on_path_is_too_old(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = _a_program(tmp_path / "nats-server", "nats-server: v2.9.10")
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

        found = binaries.find_nats_server()

        assert found.path != own
        assert found.version >= (2, 12)

    def test_says_what_to_install_when_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(binaries, "_redis_in_wheel", lambda: None)

        with pytest.raises(StackError, match="redis-server of version 6") as refusal:
            binaries.find_redis_server()

        assert "octarm[embedded]" in refusal.value.recovery_hint

    def test_a_program_that_answers_nonsense_is_not_taken(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _a_program(tmp_path / "redis-server", "hello")
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

        assert binaries.find_redis_server().path.parent != tmp_path

    def test_a_postgres_without_the_extension_has_no_pgvector(self, tmp_path: Path) -> None:
        bare = binaries.Program(tmp_path / "bin" / "postgres", (99,))

        assert not binaries.has_pgvector(bare)


class TestArms:
    def test_the_executor_needs_bubblewrap(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")

        reason = arms.why_not("executor")

        assert reason is not None
        assert "bubblewrap" in reason
        assert arms.why_not("executor", {"OCTARM_EXECUTOR_UNSAFE": "true"}) is None

    def test_the_llm_arm_needs_a_model_or_a_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arms, "local_model_is_installed", lambda: False)

        assert "OCTARM_LLM_BASE_URL" in str(arms.why_not("llm", {}))
        assert arms.why_not("llm", {"OCTARM_LLM_PROVIDER": "openai"}) is None

    def test_an_unknown_arm_is_refused_by_name(self) -> None:
        with pytest.raises(StackError, match="'welder'"):
            arms.built_in_arm("welder")


class TestServices:
    def test_replicas_are_numbered_from_the_second(self) -> None:
        roles = (Role("llm", ("run",)), Role("executor", ("run",)))

        names = [role.name for role in replicated(roles, {"llm": 3})]

        assert names == ["llm", "llm-2", "llm-3", "executor"]

    def test_children_do_not_inherit_our_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OCTARM_HTTP_PORT", "1")
        monkeypatch.setenv("OCTARM_NATS_URL", "nats://old")

        env = services.child_environment({"OCTARM_NATS_URL": "nats://new"}, {"X": "y"})

        assert "OCTARM_HTTP_PORT" not in env
        assert (env["OCTARM_NATS_URL"], env["X"]) == ("nats://new", "y")

    async def test_a_preparation_that_fails_tells_its_last_line(self, tmp_path: Path) -> None:
        role = Role("migrate", (sys.executable, "-c", "import sys; sys.exit('no such table')"))

        with pytest.raises(StackError, match="migrate ended with 1: no such table"):
            await services.run_preparation(role, env=os.environ, logs=tmp_path)

    async def test_a_preparation_that_hangs_is_ended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(services, "PREPARATION_TIMEOUT_S", 0.2)
        role = Role("migrate", (sys.executable, "-c", "import time; time.sleep(60)"))

        with pytest.raises(StackError, match="took longer"):
            await services.run_preparation(role, env=os.environ, logs=tmp_path)


class TestUpFile:
    def test_holds_urls_and_processes_for_its_owner_only(self, tmp_path: Path) -> None:
        write_up_file(tmp_path, URLS, {"nats": 7})

        content = json.loads((tmp_path / "up.json").read_text())
        assert content["gateway"] == "http://g"
        assert content["pids"] == {"nats": 7}
        assert stat.S_IMODE((tmp_path / "up.json").stat().st_mode) == 0o600

    def test_is_gone_after_removal_which_may_be_repeated(self, tmp_path: Path) -> None:
        write_up_file(tmp_path, URLS, {})

        remove_up_file(tmp_path)
        remove_up_file(tmp_path)

        assert list(tmp_path.iterdir()) == []

    def test_a_folder_has_one_holder_at_a_time(self, tmp_path: Path) -> None:
        with (
            holding(tmp_path),
            pytest.raises(StackError, match=f"process {os.getpid()} already"),
            holding(tmp_path),
        ):
            pass

        with holding(tmp_path):
            pass

    def test_a_folder_that_cannot_be_made_is_refused_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with (
            pytest.raises(StackError, match="cannot use the data folder"),
            holding(tmp_path / "file" / "data"),
        ):
            pass

    def test_logs_of_the_last_run_are_kept_once(self, tmp_path: Path) -> None:
        for content in ("first", "second", "third"):
            rotate_logs(tmp_path)
            (tmp_path / "nats.log").write_text(content)

        assert (tmp_path / "nats.log").read_text() == "third"
        assert (tmp_path / "nats.log.1").read_text() == "second"


class TestDoctor:
    def test_finds_everything_that_is_needed_where_the_tests_run(self) -> None:
        answer = CliRunner().invoke(app, ["doctor", "--json"])

        verdicts = {check["name"]: check["verdict"] for check in json.loads(answer.stdout)}
        assert answer.exit_code == 0
        assert verdicts["nats-server"] == verdicts["pgvector"] == Verdict.OK

    def test_says_what_is_missing_and_how_to_mend_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(binaries, "_postgres_in_wheel", lambda: None)

        answer = CliRunner().invoke(app, ["doctor"])

        assert answer.exit_code == 1
        assert "no postgres of version 15" in answer.stdout
        assert "octarm[embedded]" in answer.stdout

    async def test_warns_when_there_is_no_sandbox_and_no_model(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(doctor, "local_model_is_installed", lambda: False)
        monkeypatch.setattr(doctor, "OPEN_FILES", 1 << 40)

        verdicts = {check.name: check.verdict for check in await doctor.examine()}

        for name in ("bubblewrap", "local model", "user namespaces", "open files"):
            assert verdicts[name] is Verdict.WARNING


class TestUpOptions:
    def test_replicas_may_be_given_together_and_one_by_one(self) -> None:
        given = ["orchestrator=2,scheduler=3,", "gateway=2"]

        assert counts_of(given) == {"orchestrator": 2, "scheduler": 3, "gateway": 2}

    @pytest.mark.parametrize(
        ("flags", "complaint"),
        [
            (["--arms", "welder"], "welder"),
            (["--replicas", "llm"], "ROLE=N"),
            (["--replicas", "llm=0"], "from 1 to 100"),
            (["--replicas", "nats=2"], "nats"),
            (["--replicas", "llm=2,gateway=x"], "ROLE=N"),
            (["--http-port", "0"], "greater than"),
        ],
    )
    def test_nonsense_is_refused_before_anything_starts(
        self, flags: list[str], complaint: str, tmp_path: Path
    ) -> None:
        answer = CliRunner().invoke(app, ["up", "--data", str(tmp_path / "new"), *flags])

        assert answer.exit_code == 2
        assert complaint in answer.output
        assert not (tmp_path / "new").exists()


class TestAccount:
    async def test_an_ordinary_user_runs_postgres_as_himself(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)

        account = await unprivileged.unprivileged_account()

        assert (account.prefix, account.user) == ((), None)

    async def test_root_without_user_namespaces_becomes_nobody(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("PATH", "")

        account = await unprivileged.unprivileged_account()

        assert account.user == "nobody"


class TestLiveView:
    async def test_shows_every_role_with_its_state_and_the_last_lines(self) -> None:
        screen = io.StringIO()
        keeper = Keeper(Server(RedisRecipe(Path("/nowhere"))), changed=lambda _: None)
        console = Console(file=screen, force_terminal=True, width=80)

        with LiveView(lambda: [keeper], console) as view:
            view.say("redis was ended by SIGKILL, starting again")
            view.announce("ready http://127.0.0.1:1")

        shown = screen.getvalue()
        for text in ("redis", "waiting", "SIGKILL", "ready http://127.0.0.1:1"):
            assert text in shown


class TestLastLine:
    def test_is_the_last_that_is_not_blank(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_text("first\nlast \n\n")

        assert last_line(tmp_path / "log") == "last"

    def test_is_the_error_when_a_hint_follows(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_text("error: no bus\nhint: start one\n")

        assert last_line(tmp_path / "log") == "no bus"

    def test_is_empty_without_a_log(self, tmp_path: Path) -> None:
        assert last_line(tmp_path / "log") == ""


def _a_program(path: Path, answer: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path
