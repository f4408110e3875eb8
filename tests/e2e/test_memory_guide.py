"""The guide "Give your fleet a memory", followed word for word on a fresh stack."""

import re
import shutil
from pathlib import Path

import pytest

from tests.support.guide import Command, steps
from tests.support.reader import a_reader
from tests.support.sources import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
GUIDE = ROOT / "docs/guides/memory.md"
DOCUMENTS = ("dead-letters.md", "retention.md", "budgets.md")


def test_the_guide_works_word_for_word(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in DOCUMENTS:
        shutil.copy(ROOT / "docs/guides" / name, tmp_path / "docs")
    remembered = ""
    with a_reader(tmp_path) as reader:
        for step in steps(GUIDE):
            assert isinstance(step, Command)
            # An id that is cut short stands for the one that was shown last.
            line = step.line.partition("  #")[0].strip().replace("mem_01…", remembered)
            if line.startswith("octarm up"):
                reader.start_stack(line)
                reader.look_until_online("octarm arms list", "retriever")
            elif line.startswith("octarm memory erase"):
                reader.agree(line)
            else:
                if found := re.search(r"mem_\w+", reader.run(line)):
                    remembered = found[0]
        said = reader.said
        left = reader.run('octarm memory search "does Ann drink tea" --json')

    assert "added 3" in said["octarm memory ingest docs"]
    assert "DLQ" in said['octarm memory search "how long are dead letters kept?" -n 3']
    answer = said['octarm run "How long are dead letters kept?" --needs retrieve']
    assert "[1]" in answer
    assert "30 days" in answer
    assert re.search(r"decision\s+1", said["octarm memory stats"])
    assert re.search(r"erased postgres.semantic\s+1", said["octarm memory erase --tag person:ann"])
    assert "Ann drinks" not in left
