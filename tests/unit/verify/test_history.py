"""The history file: cheap to write, honest about what is not known."""

from pathlib import Path

import pytest

from octarm.models.errors import Backpressure, Unavailable
from octarm.verify.effects import read_effects
from octarm.verify.history import HistoryWriter, Operation, read_history


def read(path: Path) -> list[Operation]:
    return list(read_history(path))


def test_writes_what_was_asked_and_answered(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"

    with HistoryWriter(path, process="one") as history:
        history.invoke("submit", tenant="acme", key="k").ok(task_id="t", created=True)

    (line,) = read(path)
    assert (line.process, line.op, line.outcome) == ("one", "submit", "ok")
    assert line.args == {"tenant": "acme", "key": "k"}
    assert line.value == {"task_id": "t", "created": True}
    assert line.complete is not None
    assert line.invoke <= line.complete


def test_what_is_under_way_at_the_end_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"

    with HistoryWriter(path, process="one") as history:
        history.invoke("submit")

    (line,) = read(path)
    assert (line.outcome, line.complete) == ("unknown", None)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable("no answer in time"), "unknown"),
        (Backpressure("too much work"), "fail"),
        (TimeoutError(), "unknown"),
    ],
)
def test_an_error_says_whether_it_may_have_happened(
    error: Exception, outcome: str, tmp_path: Path
) -> None:
    path = tmp_path / "history.jsonl"

    with (
        HistoryWriter(path, process="one") as history,
        pytest.raises(type(error)),
        history.doing("submit"),
    ):
        raise error

    assert [line.outcome for line in read(path)] == [outcome]


def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path, process="one") as history:
        history.note("fault", kind="kill")
    path.write_bytes(path.read_bytes() + b'{"process":"one","op')

    assert [line.op for line in read(path)] == ["fault"]


def test_a_whole_line_that_is_no_operation_is_named(tmp_path: Path) -> None:
    for reader, name in ((read_history, "operation"), (read_effects, "side effect")):
        path = tmp_path / "file.jsonl"
        path.write_bytes(b"{}\n")

        with pytest.raises(ValueError, match=rf"file.jsonl:1 is not an? {name}"):
            list(reader(path))


def test_writers_of_several_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"

    with HistoryWriter(path, process="one") as one, HistoryWriter(path, process="two") as two:
        for _ in range(300):
            one.note("get")
            two.note("get")

    assert sorted({line.process for line in read(path)}) == ["one", "two"]
    assert len(read(path)) == 600
