"""What the demo reads, hands in, watches and reports."""

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from octarm.cli.demo.documents import MAX_BYTES, MAX_ENCODED_BYTES, Document, collect
from octarm.cli.demo.jobs import Job, jobs_for, submission
from octarm.cli.demo.report import progress, results_document, results_table, totals
from octarm.cli.demo.work import Work
from octarm.cli.http import Gateway
from octarm.cli.profiles import Target
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import OctarmError
from tests.support.cli import Cli
from tests.support.fake_gateway import FakeGateway, Reply, a_result


class TestCollect:
    def test_reads_text_files_by_name_and_says_what_it_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "b.txt").write_text("two words")
        (tmp_path / "a.md").write_text("Grüße")
        (tmp_path / "binary").write_bytes(b"\x7fELF\0\0")
        (tmp_path / "latin").write_bytes(b"Gr\xfc\xdfe")
        (tmp_path / "blank").write_text(" \n")
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "config").write_text("no")
        os.mkfifo(tmp_path / "pipe")

        found = collect(tmp_path, "*", 10)

        assert [d.name for d in found.documents] == ["a.md", "deep/b.txt"]
        assert dict(found.skipped) == {
            "binary": "binary",
            "blank": "empty",
            "latin": "not UTF-8",
        }

    def test_takes_no_more_than_the_limit(self, tmp_path: Path) -> None:
        for number in range(200):
            (tmp_path / f"{number:03}.txt").write_text("x")

        found = collect(tmp_path, "*", 12)

        assert (len(found.documents), found.beyond_limit) == (12, 188)

    def test_cuts_huge_files_between_characters(self, tmp_path: Path) -> None:
        (tmp_path / "huge").write_text("x" + "ü" * MAX_BYTES)

        (document,) = collect(tmp_path, "*", 1).documents

        assert document.cut
        assert set(document.text[1:]) == {"ü"}

    def test_cuts_what_grows_too_large_as_json(self, tmp_path: Path) -> None:
        (tmp_path / "controls").write_text("\x01" * MAX_BYTES)

        (document,) = collect(tmp_path, "*", 1).documents

        assert document.cut
        assert len(json.dumps(document.text)) <= MAX_ENCODED_BYTES

    def test_accepts_any_file_name(self, tmp_path: Path) -> None:
        for name in (b"\xff\xfe", b"a\nb", "\u202e.md".encode(), b"-rf", b"[bold]"):
            Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text("words")  # noqa: PTH118

        jobs = jobs_for(collect(tmp_path, "*", 9).documents)

        assert len(jobs) == 10
        shown = rendered(jobs)
        assert "\u202e" not in shown
        assert "[bold]" in shown
        json.dumps(results_document(jobs))


class TestJobs:
    def test_every_submission_is_within_the_contract(self) -> None:
        jobs = jobs_for([Document("a", "x" * MAX_BYTES), Document("b", '"\n' * 20_000)])

        for job in jobs:
            TaskSubmission.model_validate(submission(job, "run"))

        assert [job.priority for job in jobs] == [3, 7, 8, 2]

    def test_finds_a_count_wrong_that_is_not_the_files(self) -> None:
        document = Document("a", "two words")
        job = Job(document, "count", 5)
        right = {"words": 2, "sha256": document.sha256}

        job.take(done({"stdout": json.dumps(right)}))
        assert job.problem() == ""

        job.take(done({"stdout": json.dumps(right | {"words": 3})}))
        assert "something else" in job.problem()

        job.take(done({"stdout": "Traceback"}))
        assert "something else" in job.problem()

    def test_says_why_a_task_failed(self) -> None:
        job = Job(Document("a", "x"), "summarise", 5)

        job.take({"state": "failed", "attempt": 4, "error": {"detail": "no capable arm"}})

        assert job.problem() == "failed: no capable arm"


def done(output: Any, attempt: int = 1) -> dict[str, Any]:
    return {"state": "completed", "attempt": attempt, "result": a_result(output)}


def rendered(jobs: list[Job], width: int = 120) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(results_table(jobs, width))
    return text.getvalue()


@dataclass
class Heard:
    lines: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def finished(self, job: Job) -> None:
        self.jobs.append(job)


def serve(gateway: FakeGateway, jobs: list[Job]) -> None:
    """Each task is running when first asked about and completed when asked again."""
    ids = [f"tsk_{number}" for number in range(len(jobs))]
    handed_out = iter(ids)

    gateway.on("POST /v1/tasks", lambda _: Reply(202, {"task_id": next(handed_out)}))
    for task_id, job in zip(ids, jobs, strict=True):
        counted = {"words": job.document.words, "sha256": job.document.sha256}
        end = done({"text": "a summary", "stdout": json.dumps(counted)}, attempt=2)
        running = {"state": "running", "attempt": 1}
        gateway.on(f"GET /v1/tasks/{task_id}/result", Reply(body=running), Reply(body=end))


class TestWork:
    def work(self, gateway: FakeGateway, jobs: list[Job], heard: Heard) -> list[str]:
        killed: list[str] = []
        with Gateway(Target(gateway.url)) as client:
            Work(client, jobs, heard, killed.append, "run")()
        return killed

    def test_hands_everything_in_and_kills_the_arm_once(
        self, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octarm.cli.demo.work.POLL_S", 0.001)
        monkeypatch.setattr("octarm.cli.demo.work.ASKED_AT_ONCE", 1)
        jobs = jobs_for([Document(f"{n}.md", f"file {n} " * 30) for n in range(3)])
        serve(gateway, jobs)
        heard = Heard()

        killed = self.work(gateway, jobs, heard)

        assert killed == ["llm"]
        assert heard.jobs == sorted(heard.jobs, key=jobs.index) or len(heard.jobs) == 6
        assert [job.problem() for job in jobs] == [""] * 6
        assert len(gateway.sent("POST /v1/tasks")) == 6
        assert any("attempt 2" in line for line in heard.lines)

    def test_gives_up_when_nothing_moves(
        self, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octarm.cli.demo.work.PATIENCE_S", 0.0)
        jobs = jobs_for([Document("a.md", "x")])
        serve(gateway, jobs)
        queued = Reply(body={"state": "queued", "attempt": 0})
        for number in range(2):
            gateway.on(f"GET /v1/tasks/tsk_{number}/result", queued)

        with pytest.raises(OctarmError, match="nothing moved"):
            self.work(gateway, jobs, Heard())


class TestReport:
    def jobs(self) -> list[Job]:
        document = Document("docs/architecture/overview.md", "some words here", cut=True)
        jobs = jobs_for([document])
        jobs[0].take(done({"text": "It is\nabout \x1b[31mthings " + "x" * 300}))
        counted = {"words": 3, "sha256": document.sha256}
        jobs[1].take(done({"stdout": json.dumps(counted)}, attempt=2))
        return jobs

    @pytest.mark.parametrize("width", [60, 80, 120])
    def test_the_table_fits_its_terminal(self, width: int) -> None:
        shown = rendered(self.jobs(), width)

        assert max(map(len, shown.splitlines())) <= width
        assert "\x1b" not in shown
        assert "1+2" in shown
        assert "3*" in shown
        assert "2.5 s" in shown

    def test_sums_up(self) -> None:
        assert totals(self.jobs(), 2.0) == (
            "1 files, 2 of 2 tasks good in 3 attempts, 3 words, 84 tokens, 2.0 s"
        )

    def test_writes_a_line_a_task_where_there_is_no_terminal(self) -> None:
        text = io.StringIO()
        jobs = self.jobs()

        with progress(Console(file=text, width=100), jobs) as shown:
            shown.finished(jobs[0])

        assert text.getvalue().strip().startswith("1/2 summarise docs/architecture/overview.md")


class TestCommand:
    def test_an_empty_folder_is_nothing_to_do(self, cli: Cli, tmp_path: Path) -> None:
        cli.monkeypatch.setattr("octarm.cli.stack.arms.why_not", lambda *_: None)

        ran = cli("demo", "--folder", str(tmp_path))

        assert (ran.code, "nothing to do" in ran.err) == (0, True)

    def test_a_folder_that_is_not_there_is_wrong_usage(self, cli: Cli) -> None:
        assert cli("demo", "--folder", "/no/such/folder").code == 3

    def test_says_how_to_install_a_missing_sandbox_before_anything_starts(
        self, cli: Cli, tmp_path: Path
    ) -> None:
        cli.env(PATH=str(tmp_path))

        ran = cli("demo", "--folder", str(tmp_path))

        assert ran.code == 1
        assert "bwrap" in ran.err
        assert "apt-get install bubblewrap" in ran.err
