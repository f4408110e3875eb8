"""The simulator's command, as a user calls it."""

import os
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


def test_the_same_seed_gives_the_same_bytes_in_another_process() -> None:
    load = "libraries/policies/loads/mixed_costs.toml"
    command = [sys.executable, "-m", "octarm.policies.simulator", load, "--json", "-"]
    policies = ["--policy", "fair_share", "--policy", "libraries/policies/affinity.star"]

    written = {
        subprocess.run(
            [*command, *policies],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(written) == 1
