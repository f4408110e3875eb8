"""The guide "Write your own policy in ten minutes", followed word for word on a fresh stack."""

import json
from pathlib import Path

import pytest

from tests.support.guide import Command, File, steps
from tests.support.reader import a_reader
from tests.support.sources import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
GUIDE = ROOT / "docs/guides/policies.md"


def test_the_guide_works_word_for_word(tmp_path: Path) -> None:
    with a_reader(tmp_path) as reader:
        for step in steps(GUIDE):
            match step:
                case File(name, text):
                    (tmp_path / name).write_text(text)
                case Command(line) if line.startswith("octarm up"):
                    reader.start_stack(line)
                case Command(line) if line.endswith("&"):
                    reader.start(line)
                case Command("octarm arms list" as line):
                    reader.look_until_online(line, "cheap", "dear")
                case Command(line):
                    reader.run(line)
        tasks = json.loads(reader.run("octarm tasks list --json"))

    arms = {task["task"]["goal"]: task["arm_id"] for task in tasks}
    assert arms == {
        "Good morning": "cheap",
        "Good morning, now!": "cheap",
        "Good evening, now!": "dear",
    }
    assert "is well" in reader.said["octarm policy validate urgent.star"]
    assert "2 recorded tasks" in reader.said["octarm policy simulate urgent.star --since 1h"]
    assert "the scheduler's own policy decides" in reader.said["octarm policy rollback"]
    assert (tmp_path / "copy.star").read_text() == (tmp_path / "urgent.star").read_text()
