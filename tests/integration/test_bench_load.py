"""The parts of the load scenarios that a change of the ledger could break."""

import asyncio
from array import array
from pathlib import Path
from typing import Any

import pytest

from bench import memory_curve
from bench.load import plot
from bench.load.ledger_rows import fill
from bench.load.open_loop import Counts, quantile, told
from bench.load.processes import Watched
from tests.support.ledger import a_ledger

pytestmark = pytest.mark.integration


async def test_a_filled_ledger_holds_tasks_that_can_be_shown(postgres_url: str) -> None:
    async with a_ledger(postgres_url) as ledger:
        for _ in range(2):
            await asyncio.to_thread(fill, postgres_url, 50)

        assert await ledger.execute("select count(*) from ledger.task") == [(50,)]
        ids = [row[0] for row in await ledger.execute("select id from ledger.task")]
        outcomes = await ledger.tasks.outcomes("default", ids)
        assert all(outcome.state.is_terminal and outcome.result for outcome in outcomes)
        view = await ledger.tasks.get("default", ids[0])
        assert view is not None
        assert view.attempts[0].outcome == "success"


def test_watches_what_its_processes_take() -> None:
    watched = Watched({"one": 0})
    watched.seen["one"] = [(float(second), 100.0 + second / 60, 9) for second in range(60)]

    figures = watched.told()["one"]

    assert figures["slope_mib_per_min"] == pytest.approx(1.0, abs=0.01)
    assert figures["fds_last"] == 9


def test_figures_count_what_was_due() -> None:
    counts = Counts(due=100, accepted=60, end_ms=array("f", range(101)))
    counts.refused["QUEUE_FULL"] = 40

    figures = told(counts, 10.0)

    assert figures["refused_share"] == 0.4
    assert (figures["offered_per_s"], figures["end_p99_ms"]) == (10.0, 99.0)
    assert quantile(array("f"), 0.5) == 0.0


def test_draws_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="not installed: uv sync --group bench")
    points = [{"arms": n, "cpu_us_a_task": 400.0, "tasks_per_s": 2500.0} for n in (1, 10)]

    plot.draw({"arms": points, "ledger-size": []}, tmp_path / "growth.png")

    assert (tmp_path / "growth.png").stat().st_size > 5_000


def test_what_memory_costs_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="not installed: uv sync --group bench")
    lone = ("append fast", "append durable", "hot read", "read from Postgres")
    points: list[dict[str, Any]] = [
        {"rows": rows, **dict.fromkeys(lone, 1.0)} for rows in memory_curve.sizes(3_000)
    ]
    points += [{"rows": 1_000, "search p50": 2.0, "search p95": 3.0}]

    memory_curve.draw(points, tmp_path / "memory.png")

    assert (tmp_path / "memory.png").stat().st_size > 5_000
