"""Tracing: only what is sampled costs something, and what is sampled hangs together."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from octarm.common.telemetry import tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-2] + "00"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    tracing.setup_tracing("test", f"file:{tmp_path}", sample=0.0)
    yield tmp_path
    tracing.shutdown()


def rows(folder: Path) -> list[dict[str, object]]:
    tracing.shutdown()
    return [
        json.loads(line)
        for path in folder.glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]


def test_a_span_hangs_below_the_hop_before(folder: Path) -> None:
    with tracing.span("one.step", PARENT, task_id="t") as span:
        pass

    (row,) = rows(folder)
    assert row["trace_id"] == PARENT[3:35]
    assert row["parent_id"] == PARENT[36:52]
    assert row["span_id"] == span.traceparent[36:52]
    assert row["attributes"] == {"task_id": "t"}


def test_a_failed_block_is_an_error_and_still_raises(folder: Path) -> None:
    with pytest.raises(KeyError), tracing.span("one.step", PARENT):
        raise KeyError

    (row,) = rows(folder)
    assert row["status"] == "ERROR"


def test_what_is_not_sampled_leaves_no_span_and_travels_on(folder: Path) -> None:
    with tracing.span("one.step", UNSAMPLED) as span:
        assert span.traceparent == UNSAMPLED
    assert tracing.record("another", UNSAMPLED, 1, 2) == UNSAMPLED

    assert rows(folder) == []


def test_a_process_that_exports_nothing_passes_the_trace_on() -> None:
    tracing.setup_tracing("test", "none", sample=1.0)

    with tracing.span("one.step", PARENT) as span:
        assert span.traceparent == PARENT


def test_a_finished_span_has_the_times_that_were_measured(folder: Path) -> None:
    own = tracing.record("one.step", PARENT, 1_000, 5_000, error="late", arm_id="a")

    (row,) = rows(folder)
    assert (row["start_ns"], row["end_ns"], row["status"]) == (1_000, 5_000, "ERROR")
    assert own[36:52] == row["span_id"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_root_is_sampled_by_the_share_given(share: float) -> None:
    made = tracing.root(share)

    assert tracing.valid(made)
    assert tracing.is_sampled(made) is bool(share)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        PARENT.upper(),
        PARENT + "0",
        PARENT.replace("00-", "01-", 1),
        "00-" + "0" * 32 + PARENT[35:],
        PARENT[:36] + "0" * 16 + "-01",
        PARENT + "\n",
    ],
)
def test_refuses_what_is_no_traceparent(text: str) -> None:
    assert not tracing.valid(text)


@pytest.mark.parametrize("export", ["", "file:", "otlp", "somewhere"])
def test_refuses_an_unknown_export(export: str) -> None:
    with pytest.raises(ValueError, match="trace_export"):
        tracing.setup_tracing("test", export, sample=0)
