"""The simulator's command, as a user calls it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_help_has_examples_that_work() -> None:
    command = [sys.executable, "-m", "octarm.policies.simulator"]
    said = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout

    for words in (line.split() for line in said.splitlines() if line.endswith(".toml")):
        subprocess.run([*command, *words[3:]], cwd=ROOT, check=True, capture_output=True)

    assert "libraries/policies/loads/mixed_costs.toml" in said
