"""The guide for writers of policies does what it says, word for word."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from octarm.policies.context import (
    ArmFacts,
    Config,
    Context,
    InstanceFacts,
    TaskFacts,
    TenantFacts,
    TenantLimits,
)
from octarm.policies.language.catalog import helpers
from octarm.policies.sandbox.engine import Engine
from octarm.policies.sandbox.limits import Limits
from octarm.policies.sandbox.validation import validate
from tests.support.sources import ROOT

pytestmark = pytest.mark.integration

GUIDE = (ROOT / "docs/guides/policies.md").read_text(encoding="utf-8")
SCRIPT, TRY, RULES = (block for _, block in re.findall(r"```(python|yaml)\n(.*?)```", GUIDE, re.S))


def test_the_first_policy_runs_as_shown(tmp_path: Path) -> None:
    (tmp_path / "cheapest.star").write_text(SCRIPT)
    (tmp_path / "try.py").write_text(TRY)

    done = subprocess.run(
        [sys.executable, "try.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("Dispatch(task='tsk_")
    assert done.stdout.count("the cheapest with room") == len(done.stdout.splitlines())


async def test_the_rules_have_no_problem() -> None:
    async with Engine(Limits(call_ms=300, grace_ms=3_000)) as engine:
        report = await validate(engine, RULES, "yaml")

    assert report.problems == ()


def test_every_function_that_the_guide_calls_exists() -> None:
    called = set(re.findall(r"\b(\w+)\(ctx", SCRIPT))

    assert called - {"schedule"} <= {helper.name for helper in helpers()}
    assert called


def test_the_guide_names_every_fact_that_a_policy_sees() -> None:
    kinds = (Context, TaskFacts, ArmFacts, InstanceFacts, TenantFacts, TenantLimits, Config)
    rows = GUIDE.split("## What it sees")[1].split("## What it may ask for")[0]
    named = set(re.findall(r"`(?:ctx\.)?(\w+)`", rows))

    assert {field for kind in kinds for field in kind.__struct_fields__} <= named
