from typing import Any

import pytest

from octarm.llm.schema import MAX_ERRORS, OutputSchema
from octarm.models.errors import InvalidRequest

CITY = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


class TestRefusals:
    @pytest.mark.parametrize(
        "schema",
        [
            [],
            "string",
            7,
            {"type": "no-such-type"},
            {"pattern": "("},
            {"minLength": -1},
            {"$ref": "http://127.0.0.1:1/x"},
            {"$ref": "file:///etc/passwd"},
            {"$ref": "#/$defs/missing"},
            {"enum": ["x" * 70_000]},
            nested(70),
        ],
    )
    def test_what_is_no_usable_schema_is_refused(self, schema: Any) -> None:
        with pytest.raises(InvalidRequest, match=r"constraints\.output_schema"):
            OutputSchema(schema)

    def test_a_schema_that_refers_to_itself_for_ever_does_not_hang(self) -> None:
        OutputSchema({"$ref": "#"}).parse("1")

    def test_a_hostile_pattern_takes_no_time(self) -> None:
        _, wrong = OutputSchema({"pattern": "^(a+)+$"}).parse('"' + "a" * 40 + '!"')

        assert wrong


class TestAnswers:
    @pytest.mark.parametrize("text", ['{"n": 1}', ' {"n":1}\n', '```json\n{"n": 1}\n```'])
    def test_a_valid_answer_is_parsed(self, text: str) -> None:
        assert OutputSchema(CITY).parse(text) == ({"n": 1}, [])

    @pytest.mark.parametrize(
        "text", ["", "no", '{"n": 1', '{"n": NaN}', "[" * 100_000, '{"n": "1"}']
    )
    def test_an_invalid_answer_says_why(self, text: str) -> None:
        _, wrong = OutputSchema(CITY).parse(text)

        assert wrong

    def test_errors_name_the_place_and_are_few(self) -> None:
        schema = {"type": "array", "items": {"type": "integer"}}

        _, wrong = OutputSchema(schema).parse('["a", "b", "c", "d", "e", "f", "g"]')

        assert len(wrong) == MAX_ERRORS
        assert wrong[0].startswith("/0: ")
