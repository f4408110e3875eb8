"""Every policy of the library passes validation without a word, within the limits it runs in."""

import pytest

from octarm.policies.sandbox.engine import Engine
from octarm.policies.sandbox.limits import Limits
from octarm.policies.sandbox.validation import validate
from octarm.policies.versions import Kind
from tests.support.sources import ROOT

pytestmark = pytest.mark.integration

KINDS: dict[str, Kind] = {".star": "starlark", ".yaml": "yaml"}
LIBRARY = {
    path.name: (path.read_text(encoding="utf-8"), KINDS[path.suffix])
    for path in sorted((ROOT / "libraries/policies").iterdir())
    if path.suffix in KINDS
}


@pytest.mark.parametrize("name", LIBRARY)
async def test_has_no_problem(name: str) -> None:
    async with Engine(Limits(grace_ms=3_000)) as engine:
        report = await validate(engine, *LIBRARY[name])

    assert report.problems == ()


def test_both_kinds_are_there() -> None:
    assert {kind for _, kind in LIBRARY.values()} == set(KINDS.values())
    assert len(LIBRARY) >= 10
