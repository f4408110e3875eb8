"""What version 1 once wrote is read for ever; see golden/README.md."""

import json
from typing import Any

import pytest

from tests.support.messages import GOLDEN, MODELS, golden, golden_names, model_of


@pytest.mark.parametrize("name", golden_names())
class TestGoldenMessage:
    def test_still_parses_and_says_the_same(self, name: str) -> None:
        text = (GOLDEN / f"{name}.json").read_bytes()

        again = json.loads(model_of(name).model_validate_json(text).model_dump_json())

        assert _only(golden(name), again) == golden(name)

    def test_is_read_alike_from_text_and_from_values(self, name: str) -> None:
        text = (GOLDEN / f"{name}.json").read_bytes()

        assert model_of(name).model_validate_json(text) == model_of(name).model_validate(
            golden(name)
        )

    def test_is_written_with_the_same_bytes_each_time(self, name: str) -> None:
        message = model_of(name).model_validate(golden(name))
        written = message.model_dump_json()

        assert type(message).model_validate_json(written).model_dump_json() == written


def test_every_message_has_a_golden_one() -> None:
    assert {name.partition(".")[0] for name in golden_names()} == MODELS.keys()


def _only(wanted: Any, found: Any) -> Any:
    """Leave out of `found` the fields that later versions have added."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return {key: _only(wanted[key], found[key]) for key in wanted if key in found}
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [_only(one, other) for one, other in zip(wanted, found, strict=True)]
    return found
