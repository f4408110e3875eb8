"""One whole run of the demo, on a stack that only answers."""

import json
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from octarm.cli.demo.documents import Document
from tests.support.cli import Cli
from tests.support.fake_gateway import FakeGateway, Reply, Request, a_result, a_task

WORDS = "one two three"
SHA256 = Document("", WORDS).sha256


class FakeStack:
    """Says where the gateway is; writes the span that a service would have written."""

    def __init__(self, options: Any, *, changed: Callable[[str], None]) -> None:
        self.options = options
        self.changed = changed
        self.url = ""
        self.started: list[int] = []

    @property
    def urls(self) -> SimpleNamespace:
        return SimpleNamespace(gateway=self.url)

    @property
    def services(self) -> list[Any]:
        return []

    def pids(self) -> dict[str, int]:
        return {"supervisor": os.getpid()} | {str(pid): pid for pid in self.started}

    def kill(self, role: str) -> None:
        self.changed(f"{role} was ended by SIGKILL, starting again")

    def export_a_span(self) -> None:
        folder = self.options.data / "traces"
        folder.mkdir(parents=True)
        row = {"trace_id": "a" * 32, "span_id": "1", "name": "gateway.submit"}
        (folder / "a.jsonl").write_text(json.dumps(row | {"start_ns": 1, "end_ns": 2}))


@pytest.fixture
def folder(cli: Cli, gateway: FakeGateway, tmp_path: Path) -> Path:
    """Two texts, something binary, and a gateway that completes every task."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a.md", "b.md", "c.md"):
        (folder / name).write_text(WORDS)
    (folder / "binary").write_bytes(b"\0")
    (tmp_path / "tmp").mkdir()
    cli.monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    cli.monkeypatch.setattr("octarm.cli.stack.arms.why_not", lambda *_: None)
    cli.monkeypatch.setattr("octarm.cli.demo.show.Stack", FakeStack)
    cli.monkeypatch.setattr("octarm.cli.demo.work.POLL_S", 0.001)
    completes_everything(gateway)
    use_stack(cli, gateway)
    return folder


def completes_everything(gateway: FakeGateway, words: int = 3) -> None:
    ids = iter(f"tsk_{number}" for number in range(100))

    def submit(_: Request) -> Reply:
        task_id = next(ids)
        output = {"text": "short", "stdout": json.dumps({"words": words, "sha256": SHA256})}
        done = {"state": "completed", "attempt": 2, "result": a_result(output)}
        running = Reply(body={"state": "running", "attempt": 1})
        gateway.on(f"GET /v1/tasks/{task_id}/result", running, Reply(body=done))
        gateway.on(f"GET /v1/tasks/{task_id}", Reply(body=a_task()))
        return Reply(202, {"task_id": task_id})

    gateway.on("POST /v1/tasks", submit)


def use_stack(
    cli: Cli, gateway: FakeGateway, prepare: Callable[[FakeStack], None] = FakeStack.export_a_span
) -> None:
    @asynccontextmanager
    async def running(stack: FakeStack, _: Path) -> AsyncGenerator[FakeStack, None]:
        stack.url = gateway.url
        prepare(stack)
        yield stack

    cli.monkeypatch.setattr("octarm.cli.demo.show.running", running)


def left_in(folder: Path) -> list[str]:
    return [path.name for path in (folder.parent / "tmp").glob("*/*")]


class TestDemo:
    def test_ends_well_with_table_totals_results_and_trace(self, cli: Cli, folder: Path) -> None:
        ran = cli("demo", "--folder", str(folder), "--limit", "2")

        assert ran.code == 0, ran.err
        assert "killed the arm llm" in ran.out
        assert "2 files, 4 of 4 tasks good in 8 attempts, 6 words" in ran.out
        assert "1 more files were left out" in ran.out or "2 more files" in ran.out
        assert "gateway.submit" in ran.out
        assert left_in(folder) == ["results.json"]

    def test_prints_only_the_results_in_json_mode(self, cli: Cli, folder: Path) -> None:
        ran = cli("demo", "--folder", str(folder), "--json", "--keep")

        assert [result["file"] for result in ran.json] == ["a.md", "b.md", "c.md"]
        assert "skipped binary: binary" in ran.err
        assert sorted(left_in(folder)) == ["results.json", "stack"]

    def test_fails_and_names_the_first_task_that_went_wrong(
        self, cli: Cli, gateway: FakeGateway, folder: Path
    ) -> None:
        completes_everything(gateway, words=4)

        ran = cli("demo", "--folder", str(folder))

        assert ran.code == 1
        assert "3 of 6 tasks went wrong; the first: count a.md" in ran.err

    def test_fails_without_a_trace_and_leaves_the_logs(
        self, cli: Cli, gateway: FakeGateway, folder: Path
    ) -> None:
        def log_something(stack: FakeStack) -> None:
            (stack.options.data / "logs").mkdir(parents=True)
            (stack.options.data / "postgres").mkdir()

        use_stack(cli, gateway, log_something)

        ran = cli("demo", "--folder", str(folder))

        assert (ran.code, "no spans" in ran.err) == (1, True)
        assert sorted(left_in(folder)) == ["results.json", "stack"]
        assert [path.name for path in (folder.parent / "tmp").glob("*/stack/*")] == ["logs"]

    def test_fails_when_a_process_is_left(
        self, cli: Cli, gateway: FakeGateway, folder: Path
    ) -> None:
        cli.monkeypatch.setattr("octarm.cli.demo.show.GONE_WITHIN_S", 0.05)
        with subprocess.Popen(["sleep", "60"]) as process:

            def leave_one(stack: FakeStack) -> None:
                stack.export_a_span()
                stack.started.append(process.pid)

            use_stack(cli, gateway, leave_one)

            ran = cli("demo", "--folder", str(folder))
            process.kill()

        assert (ran.code, str(process.pid) in ran.err) == (1, True)

    def test_an_interrupt_stops_everything(
        self, cli: Cli, gateway: FakeGateway, folder: Path
    ) -> None:
        signals = iter([signal.SIGINT])

        def interrupt(_: Request) -> Reply:
            for number in signals:
                signal.raise_signal(number)
            return Reply(body={"state": "queued", "attempt": 0})

        def submit(_: Request) -> Reply:
            gateway.on("GET /v1/tasks/tsk_1/result", interrupt)
            return Reply(202, {"task_id": "tsk_1"})

        gateway.on("POST /v1/tasks", submit)

        ran = cli("demo", "--folder", str(folder), "--limit", "1")

        assert (ran.code, "stopped before the end" in ran.err) == (1, True)
        assert left_in(folder) == []

    def test_shows_bars_on_a_terminal(self, cli: Cli, folder: Path) -> None:
        cli.env(FORCE_COLOR="1", COLUMNS="90", TERM="xterm-256color")

        ran = cli("demo", "--folder", str(folder))

        assert ran.code == 0, ran.err
        assert "summaries" in ran.out
        assert "word counts" in ran.out
