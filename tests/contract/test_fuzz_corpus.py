"""What fuzzers have found interesting, read again: nothing raises, nothing hangs."""

import time
from random import Random

import pytest

from tests.fuzz.mutate import spoiled
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import CHOOSING, CORPUS, TARGETS

# Of all threads, and a collection of the whole run's garbage may fall into it.
HANG_S = 10.0
SPOILED_EACH = 20


def inputs(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(CORPUS.glob(f"{name}/*"))] + seeds(name)


@pytest.mark.bad_input(1, 2, 10, 12, 26, 32)
@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_and_its_like_find_nothing(name: str) -> None:
    known, target, random = inputs(name), TARGETS[name], Random(7)
    head = 1 if name in CHOOSING else 0
    fresh = [
        data[:head] + new
        for data in known
        for _ in range(SPOILED_EACH)
        if (new := spoiled(data[head:], random)) is not None
    ]

    for data in [b"", *known, *fresh]:
        began = time.process_time()
        target(data)
        assert time.process_time() - began < HANG_S, data[:300]


def test_every_target_has_inputs() -> None:
    assert [name for name in TARGETS if not inputs(name)] == []
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()
