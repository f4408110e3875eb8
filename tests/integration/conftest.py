"""Fixtures of the tests on real servers."""

from collections.abc import AsyncGenerator

import pytest

from tests.support.ledger import Ledger, a_ledger


@pytest.fixture
async def ledger(postgres_url: str) -> AsyncGenerator[Ledger, None]:
    """A migrated ledger with nothing in it."""
    async with a_ledger(postgres_url) as ledger:
        yield ledger
