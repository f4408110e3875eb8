"""The logs of a stack: one story of many files, in the order of time."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from octarm.cli.logs import Line, LogFile, Wanted, log_files, merged
from tests.support.cli import Cli

TASK = "tsk_01jd5x2b3c4d5e6f7g8h9jkmnp"


def said(second: int, event: str, level: str = "info", **more: object) -> str:
    row = {"timestamp": f"2026-11-22T06:10:{second:02}.000000Z", "level": level, "event": event}
    return json.dumps(row | more) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "gateway.log").write_text(
        said(1, "starting", service="gateway")
        + said(9, "odd", "warning", service="gateway", task_ids=["x", TASK])
    )
    (logs / "executor.log").write_text(
        said(5, "handler_raised", "error", service="executor", task_id=TASK, exception="a\nb")
    )
    (logs / "postgres.log").write_text(
        "The files belong to\n"
        "2026-11-22 06:10:03.500 UTC [4191] ERROR:  no relation of ann@example.org\n"
        "\tand its detail\n"
    )
    (logs / "gateway.log.1").write_text(said(0, "of_the_run_before", service="gateway"))
    return tmp_path


class TestMerging:
    def test_lines_of_all_processes_come_by_time(self, folder: Path) -> None:
        lines = list(merged(log_files(folder / "logs"), Wanted()))

        assert [(line.service, line.level) for line in lines] == [
            ("postgres", "info"),
            ("gateway", "info"),
            ("postgres", "error"),
            ("postgres", "info"),
            ("executor", "error"),
            ("gateway", "warning"),
        ]
        assert lines[2].fields == {"message": "no relation of <EMAIL>"}
        assert lines[3].at == lines[2].at == datetime(2026, 11, 22, 6, 10, 3, 500_000, UTC)

    @pytest.mark.parametrize(
        ("wanted", "events"),
        [
            (Wanted(services=frozenset({"gateway"})), ["starting", "odd"]),
            (Wanted(level="warning", services=frozenset({"gateway"})), ["odd"]),
            (Wanted(task_id=TASK), ["handler_raised", "odd"]),
        ],
    )
    def test_shows_what_is_wanted(self, folder: Path, wanted: Wanted, events: list[str]) -> None:
        lines = merged(log_files(folder / "logs"), wanted)

        assert [line.event for line in lines] == events

    @pytest.mark.parametrize(
        ("text", "level", "message"),
        [
            ("[4149] 2026/11/22 06:10:51.743442 [WRN] Slow: x", "warning", "Slow: x"),
            ("4159:M 22 Nov 2026 06:10:51.768 * Ready to accept", "info", "Ready to accept"),
            ("4159:M 22 Nov 2026 06:10:51.768 # Memory", "warning", "Memory"),
            ("[4149] 2026/99/22 06:10:51.743442 [WRN] Slow", "info", None),
            ('{"event": "half', "info", None),
            ("[]", "info", None),
        ],
    )
    def test_reads_what_servers_write(
        self, tmp_path: Path, text: str, level: str, message: str | None
    ) -> None:
        (tmp_path / "nats.log").write_text(text + "\n")

        (line,) = LogFile(tmp_path / "nats.log").read()

        assert (line.level, line.fields["message"]) == (level, message or text)
        assert (line.at.year == 2026) is (message is not None)

    def test_reading_goes_on_where_it_ended_and_anew_in_a_new_file(self, tmp_path: Path) -> None:
        path = tmp_path / "gateway.log"
        path.write_text(said(1, "one") + said(2, "half")[:-1])
        log = LogFile(path)

        def events() -> list[str]:
            return [line.event for line in log.read()]

        assert events() == ["one"]
        with path.open("a") as file:
            file.write("\n" + said(3, "three"))
        assert events() == ["half", "three"]
        assert events() == []
        (tmp_path / "new").write_text(said(4, "four"))
        (tmp_path / "new").replace(path)
        assert events() == ["four"]
        path.unlink()
        assert events() == []

    def test_a_line_is_about_a_task_that_it_names_among_others(self) -> None:
        fields = {"number": 3, "task_ids": [TASK]}
        line = Line(datetime.now(UTC), "s", 1, "info", "e", fields)

        assert line.mentions(TASK)
        assert not line.mentions("tsk_other")


class TestCommand:
    def test_shows_them_for_people(self, cli: Cli, folder: Path) -> None:
        out = cli("logs", "--data", str(folder), "--task", TASK).out

        first, *rest = out.splitlines()
        assert first.split()[1:4] == ["error", "executor", "handler_raised"]
        assert rest[:2] == ["a", "b"]

    def test_shows_them_for_programs(self, cli: Cli, folder: Path) -> None:
        out = cli("logs", "--data", str(folder), "--last", "2", "--json").out

        rows = [json.loads(line) for line in out.splitlines()]
        assert [row["event"] for row in rows] == ["handler_raised", "odd"]
        assert rows[1]["task_ids"] == ["x", TASK]

    def test_shows_those_of_the_run_before(self, cli: Cli, folder: Path) -> None:
        out = cli("logs", "--data", str(folder), "--previous").out

        assert "of_the_run_before" in out
        assert "starting" not in out

    def test_says_that_there_is_nothing(self, cli: Cli, folder: Path) -> None:
        silent = cli("logs", "--data", str(folder), "--task", "tsk_other")
        calm = cli("logs", "--data", str(folder), "--level", "critical")

        assert (silent.code, silent.out, calm.out) == (0, "", "")
        assert "octarm trace tsk_other" in silent.err
        assert "Nothing" in calm.err

    @pytest.mark.parametrize(
        ("words", "hint"),
        [(("--level", "loud"), "Take one of"), (("--data", "/nowhere"), "octarm up")],
    )
    def test_says_how_to_ask(self, cli: Cli, words: tuple[str, ...], hint: str) -> None:
        ran = cli("logs", *words)

        assert ran.code != 0
        assert hint in ran.err
