"""What the simulator reads and writes: loads, records, tables, pictures, its command line."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from octarm.policies.simulator import load as loads
from octarm.policies.simulator import records
from octarm.policies.simulator.__main__ import main
from octarm.policies.simulator.jobs import replayed
from octarm.policies.simulator.load import BadLoad
from octarm.policies.simulator.records import RecordedArm, RecordedDecision, RecordedTenant
from octarm.policies.simulator.tally import jain, percentile

TOML = """
duration_s = 20
[[arms]]
id = "a"
slots = 2
[[tasks]]
name = "s"
deadline_s = 5
arrivals = { rate_per_s = 1, process = "poisson" }
duration = { mean_s = 1 }
"""
LINES: list[records.Line] = [
    RecordedArm("a", slots=1),
    RecordedTenant("acme", weight=2.0, running=4),
    RecordedDecision("late", 103.0, took_s=2.0, tenant="acme", tier="batch"),
    RecordedDecision("t-1", 100.0, took_s=4.0, status="failure", deadline=150.0),
    RecordedDecision("t-1", 100.0, attempt=2, took_s=3.0, assigned_arm="a"),
    RecordedDecision("open", 101.0),
]


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    path = tmp_path / "load.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def a_record(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(records.encoded(LINES) + b"\n")
    return path


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("duration_s = ", "Invalid value"),
        ("duration_s = 1", "arms: Field required"),
        (TOML.replace("slots", "slts"), "arms.0.slts: Extra inputs"),
    ],
)
def test_a_load_that_is_wrong_is_refused_where_it_is_wrong(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "load.toml"
    path.write_text(text)

    with pytest.raises(BadLoad, match=why):
        loads.read(path)


def test_a_record_is_read_as_tasks_with_their_attempts(a_record: Path) -> None:
    recording = records.read(a_record)

    first, unfinished, late = replayed(recording)

    assert (first.task_id, first.at_s, first.kind.deadline_s) == ("t-1", 0.0, 50.0)
    assert [first.attempt(number, 0.9) for number in (1, 2, 3)] == [
        (4.0, True),
        (3.0, False),
        (3.0, False),
    ]
    assert unfinished.attempt(1, 0.9) == (3.0, False)
    assert (late.at_s, late.kind.tier) == (3.0, 1)
    load = records.load_of(recording, "name")
    assert (load.arms[0].slots, load.tenants[0].running) == (1, 4)


def test_a_record_in_which_nothing_has_ended_takes_a_second_each(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(records.encoded([RecordedDecision("t", 5.0)]))

    recording = records.read(path)

    assert recording.mean_s == 1.0
    with pytest.raises(BadLoad, match="no arm is recorded"):
        records.load_of(recording, "name")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no decision is recorded"),
        ('\n{"type": "decision"}', "line 2: .*task_id"),
        ("{", "line 1"),
    ],
)
def test_a_record_that_is_wrong_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_text(text)

    with pytest.raises(BadLoad, match=why):
        records.read(path)


def test_percentiles_and_fairness_of_nothing() -> None:
    assert percentile([], 50) == 0.0
    assert percentile([1.0, 2.0], 100) == 2.0
    assert jain([]) == 1.0
    assert jain([1.0, 0.0]) == 0.5


def test_the_command_prints_tables_and_writes_the_same_json_twice(
    a_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"

    assert main([str(a_file), "--policy", "fifo", "--policy", "deadline", "--json", str(out)]) == 0
    assert main([str(a_file), "--policy", "fifo", "--policy", "deadline", "--json", "-"]) == 0

    tables, _, text = capsys.readouterr().out.partition("[\n")
    assert out.read_text() == "[\n" + text
    assert [it["policy"] for it in json.loads(out.read_text())] == ["fifo", "deadline"]
    assert tables.splitlines()[0].split()[:3] == ["policy", "done", "failed"]


def test_the_command_replays_a_record_with_its_own_arms_or_others(
    a_record: Path, a_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--replay", str(a_record)]) == 0
    assert main([str(a_file), "--replay", str(a_record)]) == 0

    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("policy")]
    assert len(heads) == 4


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "name a load"),
        (["absent.toml"], "absent.toml"),
        (["--replay", "absent.jsonl"], "absent.jsonl"),
        (["absent.toml", "--policy", "nothing"], "no policy nothing"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 3

    assert why in capsys.readouterr().err


class Canvas:
    """Takes any call of a drawing library."""

    def __init__(self) -> None:
        self.saved: list[Path] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: None

    def savefig(self, path: Path, **named: Any) -> None:
        self.saved.append(path)


def test_a_picture_is_drawn_where_there_is_something_to_draw_with(
    a_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas, library = Canvas(), types.ModuleType("matplotlib")
    pyplot = types.ModuleType("matplotlib.pyplot")
    axes = [[Canvas() for _ in range(3)] for _ in range(2)]
    setattr(library, "use", lambda backend: None)  # noqa: B010 - mypy knows no such attribute
    setattr(library, "pyplot", pyplot)  # noqa: B010
    setattr(pyplot, "subplots", lambda *given, **named: (canvas, axes))  # noqa: B010
    setattr(pyplot, "close", lambda figure: None)  # noqa: B010
    monkeypatch.setitem(sys.modules, "matplotlib", library)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", pyplot)
    path = tmp_path / "plot.png"

    assert main([str(a_file), "--plot", str(path)]) == 0

    assert canvas.saved == [path]


def test_without_it_the_command_says_how_to_get_it(
    a_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    assert main([str(a_file), "--plot", str(tmp_path / "plot.png")]) == 3

    assert "uv sync --group bench" in capsys.readouterr().err
