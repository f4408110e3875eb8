from typing import Any

import pytest

from octarm.llm.question import Defaults, question_of
from octarm.models.errors import InvalidRequest
from tests.support.arm_stage import a_task


def test_a_bare_goal_gets_the_defaults() -> None:
    question = question_of(a_task(goal="Why?"), Defaults(max_output_tokens=9, temperature=0.5))

    assert (question.goal, question.text, question.rules) == ("Why?", "", "")
    assert (question.max_output_tokens, question.temperature) == (9, 0.5)
    assert question.schema is None


def test_other_constraints_become_rules_for_the_model() -> None:
    constraints = {"tone": "formal", "words": {"max": 5}, "temperature": 0}

    question = question_of(a_task(constraints=constraints), Defaults())

    assert question.rules == '- tone: formal\n- words: {"max":5}'
    assert question.temperature == 0


@pytest.mark.parametrize(
    ("constraints", "context"),
    [
        ({"temperature": "hot"}, {}),
        ({"temperature": -1}, {}),
        ({"temperature": 2.5}, {}),
        ({"temperature": True}, {}),
        ({"max_output_tokens": 0}, {}),
        ({"max_output_tokens": 10**9}, {}),
        ({"system": 7}, {}),
        ({"system": "x" * 20_000}, {}),
        ({"output_schema": "object"}, {}),
        ({}, {"text": ["a"]}),
    ],
)
def test_refuses_what_is_out_of_range(constraints: dict[str, Any], context: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        question_of(a_task(constraints=constraints, context=context), Defaults())

    assert refused.value.errors
