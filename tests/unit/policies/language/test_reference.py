import subprocess
import sys

from octarm.policies.language.catalog import helpers
from octarm.policies.language.counterparts import COUNTERPARTS, GONE
from octarm.policies.language.evaluator import Evaluator
from octarm.policies.language.reference import BUILTINS, page
from tests.support.sources import ROOT

PAGE = ROOT / "docs/reference/policy-helpers.md"


def test_the_page_is_what_the_helpers_say() -> None:
    command = [sys.executable, "-m", "octarm.policies.language.reference"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert PAGE.read_text(encoding="utf-8") == printed == page(), "run `make reference`"


def test_every_counterpart_exists() -> None:
    known = {helper.name for helper in helpers()}
    named = {name for names in COUNTERPARTS.values() for name in names}

    assert {name for name in named if " " not in name and "." not in name} <= known
    assert len(COUNTERPARTS) + len(GONE) >= 50


def test_every_builtin_that_the_page_names_exists() -> None:
    evaluator = Evaluator()
    names = BUILTINS.split("There is no")[0].split("`")[1::2]

    for name in names:
        evaluator.compile(f"x = {name}\ndef schedule(ctx):\n    return [x]")

    assert "sorted" in names
