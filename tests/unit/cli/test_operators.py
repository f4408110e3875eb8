"""Migrating, provisioning, and the entry point."""

import json
import subprocess
import sys

import pytest

from octarm.cli import __main__ as entry
from tests.support.cli import Cli

NOBODY = "127.0.0.1:1"


class TestMigrate:
    def test_needs_to_know_the_database(self, cli: Cli) -> None:
        ran = cli("db", "migrate")

        assert (ran.code, "--postgres-url" in ran.err) == (3, True)

    def test_says_why_a_service_could_not_migrate(self, cli: Cli) -> None:
        ran = cli("db", "migrate", "--postgres-url", f"postgresql://{NOBODY}/octarm")

        assert ran.code == 1
        assert "octarm.orchestrator could not migrate" in ran.err

    def test_migrates_orchestrator_and_memory(self, cli: Cli) -> None:
        started: list[list[str]] = []

        def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            started.append(argv[1:])
            return subprocess.CompletedProcess(argv, 0, "", "")

        cli.monkeypatch.setattr("octarm.cli.commands.admin.subprocess.run", run)

        ran = cli("db", "migrate", "--postgres-url", "postgresql://x", "--json")

        assert ran.json == {"migrated": ["octarm.orchestrator", "octarm.memory"]}
        assert started == [
            ["-m", "octarm.orchestrator", "migrate"],
            ["-m", "octarm.memory", "migrate"],
        ]


class TestProvision:
    def test_needs_to_know_the_bus(self, cli: Cli) -> None:
        assert cli("bus", "provision").code == 3

    def test_says_that_nobody_answers(self, cli: Cli) -> None:
        ran = cli("bus", "provision", "--nats-url", f"nats://{NOBODY}")

        assert ran.code == 1
        assert ran.err.startswith("error: ")


class TestEntryPoint:
    def test_a_broken_pipe_is_no_traceback(self, cli: Cli) -> None:
        def broken(*_: object, **__: object) -> None:
            raise BrokenPipeError

        cli.monkeypatch.setattr("octarm.cli.commands.admin.print_lines", broken)

        ran = cli("version")

        assert (ran.code, ran.err) == (1, "")

    def test_is_a_console_script_and_a_module(self) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "octarm.cli", "version", "--json"],
            capture_output=True,
            check=True,
        )

        assert "octarm" in json.loads(ran.stdout)

    def test_exits_with_the_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["octarm", "no-such-command"])

        with pytest.raises(SystemExit) as caught:
            entry.main()

        assert caught.value.code == 3

    def test_without_a_command_shows_the_help(self, cli: Cli) -> None:
        ran = cli()

        assert "Commands" in ran.out
        assert ran.code == 3
