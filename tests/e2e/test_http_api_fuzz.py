"""The API holds to its own document whatever it is sent; `make fuzz` does the same for longer."""

import httpx
import pytest

from tests.e2e.conftest import Up
from tests.fuzz.http_api import fuzz

pytestmark = pytest.mark.e2e
SECONDS = 20


@pytest.mark.bad_input(1, 3, 6, 8, 9, 14, 15, 20, 32)
@pytest.mark.timeout(5 * SECONDS + 180)
def test_no_answer_is_a_500_or_breaks_its_schema(up_alone: Up) -> None:
    done = fuzz(up_alone.gateway, SECONDS, seed=3)

    assert done.returncode == 0, done.stdout[-6000:]
    assert httpx.get(f"{up_alone.gateway}/readyz").status_code == 200
