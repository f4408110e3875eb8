"""Fixtures of the command line's tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.fake_gateway import FakeGateway, a_fake_gateway


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """A gateway that answers from memory."""
    with a_fake_gateway() as gateway:
        yield gateway


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in a home of its own, with no gateway known."""
    for name in list(os.environ):
        if name.startswith(("OCTARM_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Cli(tmp_path, monkeypatch)
