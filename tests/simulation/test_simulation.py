"""Thousands of seeded runs of the whole system on virtual time; see README.md beside this file."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from typing import Final

import pytest

from tests.simulation.__main__ import regressions
from tests.simulation.bugs import BUGS

SEEDS: Final = int(os.environ.get("OCTARM_SIM_SEEDS", "2000"))
FIRST: Final = int(os.environ.get("OCTARM_SIM_FIRST", "1"))
WITHIN_SEEDS: Final = 600
SIDE_BY_SIDE: Final = min(os.cpu_count() or 1, 4)


async def simulate(*arguments: object, hash_seed: str = "0") -> tuple[int, str]:
    """Run `python -m tests.simulation`; give its exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.simulation", *map(str, arguments)),
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    out, errors = await process.communicate()
    return process.returncode or 0, (out + errors).decode()


@pytest.mark.timeout(2400)
async def test_every_seed_holds() -> None:
    share = -(-SEEDS // SIDE_BY_SIDE) * SIDE_BY_SIDE

    runs = await asyncio.gather(
        *(
            simulate("--first", FIRST + part, "--seeds", share - part, "--step", SIDE_BY_SIDE)
            for part in range(SIDE_BY_SIDE)
        )
    )

    assert [said for code, said in runs if code] == []


async def test_the_same_seed_gives_the_same_history() -> None:
    runs = await asyncio.gather(
        *(simulate("--seeds", 24, "--digest", hash_seed=seed) for seed in ("1", "2"))
    )

    (one, first), (two, second) = runs
    assert (one, two) == (0, 0)
    assert first.splitlines()[:24] == second.splitlines()[:24]


async def test_what_seeds_once_found_stays_mended() -> None:
    for seed in regressions():
        code, said = await simulate("--first", seed, "--seeds", 1)
        assert code == 0, said


@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", sorted(BUGS))
async def test_finds_a_planted_bug(bug: str) -> None:
    code, said = await simulate("--seeds", WITHIN_SEEDS, "--stop", "--bug", bug)

    assert code == 1, f"{bug} was not found: {said}"
    assert "TypeError" not in said, f"{bug} does not fit what it replaces: {said}"
