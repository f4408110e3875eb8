"""What the demo shows while it works and at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from octarm.cli.demo.jobs import Job, Kind, count_of, summary_of
from octarm.cli.text import clean, shorten

PLAIN_WIDTH = 120
WIDE = 100
NARROW = 72
SUMMARY_LINES = 3
RIGHT = {"words", "tokens", "tries", "time"}
TITLES: dict[Kind, str] = {"summarise": "summaries", "count": "word counts"}


def console(*, on_stderr: bool) -> Console:
    """Stdout or stderr; 120 columns wide where it is no terminal."""
    found = Console(highlight=False, stderr=on_stderr)
    if found.is_terminal:
        return found
    return Console(highlight=False, stderr=on_stderr, width=PLAIN_WIDTH)


@dataclass(slots=True)
class Progressed:
    """Shows progress: bars on a terminal, a line for each task elsewhere."""

    out: Console
    jobs: list[Job]
    bars: Progress | None = None
    done: int = 0
    bar_of: dict[Kind, Any] = field(default_factory=dict)

    def say(self, line: str) -> None:
        """Print a line, above the bars if there are any."""
        self.out.print(Text(f"  {clean(line)}"), soft_wrap=True)

    def finished(self, job: Job) -> None:
        """Count a finished job."""
        self.done += 1
        problem = job.problem()
        if self.bars is not None:
            self.bars.advance(self.bar_of[job.kind])
        if self.bars is None or problem:
            note = problem or f"{job.seconds:.1f} s, priority {job.priority}"
            self.say(f"{self.done}/{len(self.jobs)} {job.kind} {job.document.name}: {note}")


@contextmanager
def progress(out: Console, jobs: list[Job]) -> Iterator[Progressed]:
    """Show progress for the length of the block."""
    if not out.is_terminal:
        yield Progressed(out, jobs)
        return
    columns = (
        TextColumn("  {task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out) as bars:
        shown = Progressed(out, jobs, bars)
        for kind, title in TITLES.items():
            total = sum(job.kind == kind for job in jobs)
            shown.bar_of[kind] = bars.add_task(title, total=total)
        yield shown


def results_table(jobs: list[Job], width: int) -> Table:
    """One row a file: both its tasks. A narrow terminal shows neither tokens nor arms."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    longest = max((len(clean(job.document.name)) for job in jobs), default=4)
    columns = [("file", min(longest, 30 if width >= WIDE else 14)), ("summary", 0)]
    columns += [("words", 6), ("tokens", 6), ("tries", 5), ("arm", 12), ("time", 7)]
    if width < NARROW:
        columns = [column for column in columns if column[0] not in {"tokens", "arm"}]
    room = max(10, width - sum(size + 2 for _, size in columns) - 2)
    for name, size in columns:
        justify: JustifyMethod = "right" if name in RIGHT else "left"
        table.add_column(
            name, justify=justify, no_wrap=name != "summary", width=size or room, overflow="fold"
        )
    for summary, count in _pairs(jobs):
        cells = _row(summary, count, longest_summary=SUMMARY_LINES * room)
        table.add_row(*(cells[name] for name, _ in columns))
    return table


def _row(summary: Job, count: Job, *, longest_summary: int) -> dict[str, Text]:
    name = clean(summary.document.name)
    said = summary.problem() or summary_of(summary)
    words = str(count_of(count).get("words", "?")) + ("*" if summary.document.cut else "")
    arms = [str((job.result or {}).get("arm_id", "-")) for job in (summary, count)]
    retried = summary.attempt > 1 or count.attempt > 1
    return {
        "file": Text(name, overflow="ellipsis"),
        "summary": Text(shorten(said, longest_summary), style="red" if summary.problem() else ""),
        "words": Text(words, style="red" if count.problem() else ""),
        "tokens": Text(str(summary.tokens)),
        "tries": Text(f"{summary.attempt}+{count.attempt}", style="yellow" if retried else ""),
        "arm": Text(clean("+".join(dict.fromkeys(arms))), overflow="ellipsis"),
        "time": Text(f"{summary.seconds + count.seconds:.1f} s"),
    }


def totals(jobs: list[Job], seconds: float) -> str:
    """The sums, in one line."""
    pairs = _pairs(jobs)
    words = sum(count_of(count).get("words", 0) for _, count in pairs)
    good = sum(not job.problem() for job in jobs)
    attempts = sum(job.attempt for job in jobs)
    tokens = sum(job.tokens for job in jobs)
    return (
        f"{len(pairs)} files, {good} of {len(jobs)} tasks good in {attempts} attempts, "
        f"{words} words, {tokens} tokens, {seconds:.1f} s"
    )


def results_document(jobs: list[Job]) -> list[dict[str, Any]]:
    """The full results, for the JSON file."""
    return [
        {
            "file": summary.document.name,
            "cut": summary.document.cut,
            "summary": summary_of(summary),
            **{key: count_of(count).get(key) for key in ("words", "sha256")},
            "tasks": [
                {
                    "task_id": job.task_id,
                    "kind": job.kind,
                    "priority": job.priority,
                    "state": job.state,
                    "attempts": job.attempt,
                    "problem": job.problem(),
                    "result": job.result,
                }
                for job in (summary, count)
            ],
        }
        for summary, count in _pairs(jobs)
    ]


def _pairs(jobs: list[Job]) -> list[tuple[Job, Job]]:
    return list(zip(jobs[::2], jobs[1::2], strict=True))
