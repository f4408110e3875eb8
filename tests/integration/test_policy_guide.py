"""What the guide for writers of policies shows is right; tests/e2e runs its commands."""

import re

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
_, SCRIPT, _, RULES = (block for _, block in re.findall(r"```(python|yaml)\n(.*?)```", GUIDE, re.S))


async def test_the_first_policy_has_no_problem() -> None:
    async with Engine(Limits(call_ms=300, grace_ms=3_000)) as engine:
        report = await validate(engine, SCRIPT)

    assert report.problems == ()


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
