"""The cycle collector looks when it is told to, and then at everything."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from octarm.policies import collecting
from octarm.policies.collecting import ALL_AFTER, ALL_AT_REST, BetweenCycles
from tests.support.wait import wait_until

ENOUGH = 1_000


class Knot:
    """Refers to itself, so only the collector can free it."""

    def __init__(self) -> None:
        self.own = self


def a_knot() -> "weakref.ref[Knot]":
    return weakref.ref(Knot())


@pytest.fixture
def tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[BetweenCycles]:
    monkeypatch.setattr(collecting, "YOUNG", ENOUGH)
    gc.collect()
    try:
        with BetweenCycles() as tidy:
            yield tidy
    finally:
        gc.unfreeze()


def many() -> list[list[int]]:
    return [[number] for number in range(2 * ENOUGH)]


def test_nothing_is_collected_between_two_calls(tidy: BetweenCycles) -> None:
    knot = a_knot()

    made = many()

    assert knot() is not None
    assert made


def test_a_call_collects_when_enough_is_new(tidy: BetweenCycles) -> None:
    knot = a_knot()

    made = many()
    tidy(resting=False)

    assert knot() is None
    assert made


@pytest.mark.parametrize(("resting", "after"), [(True, ALL_AT_REST), (False, ALL_AFTER)])
def test_what_has_outlived_a_look_is_looked_at_again(
    tidy: BetweenCycles, resting: bool, after: int
) -> None:
    held = Knot()
    knot = weakref.ref(held)
    kept = []
    for _ in range(after):
        kept.append(many())
        tidy(resting=False)
    del held

    tidy(resting=resting)

    assert knot() is None


def test_a_call_looks_for_nothing_when_little_is_new(tidy: BetweenCycles) -> None:
    knot = a_knot()

    tidy(resting=False)

    assert knot() is not None


def test_while_it_is_not_open_a_call_does_nothing() -> None:
    frozen = gc.get_freeze_count()

    BetweenCycles()(resting=True)

    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


async def test_it_looks_by_itself_too(tidy: BetweenCycles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "EVERY_S", 0.0)
    knot = a_knot()
    made = many()

    looking = asyncio.create_task(tidy.run())
    await wait_until(lambda: knot() is None)
    looking.cancel()

    assert made


def test_the_interpreter_collects_again_afterwards(tidy: BetweenCycles) -> None:
    assert not gc.isenabled()

    tidy.__exit__(None, None, None)

    assert gc.isenabled()
