"""The committed OpenAPI document is what the gateway says of itself."""

from pathlib import Path

from octarm.gateway.app import openapi_text

COMMITTED = Path(__file__).parents[2] / "shared" / "openapi.json"


def test_is_committed_as_the_gateway_says() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == openapi_text(), "run `make schemas`"
