"""Errors: what is raised on one side is raised on the other."""

import pytest
from pydantic import BaseModel, ValidationError

from octarm.models import errors
from octarm.models.errors import FieldError, OctarmError, Problem

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]
EXCEPTIONS = [kind for kind in KINDS if issubclass(kind, OctarmError)]


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
class TestException:
    def test_survives_the_wire(self, kind: type[OctarmError]) -> None:
        fields = [FieldError(field="goal", message="must not be blank")]
        raised = kind("it broke", "mend it", "ITS_CODE", retry_after_s=3, errors=fields)

        wire = raised.problem(correlation_id="c-1", instance="/v1/tasks").model_dump_json()
        again = errors.from_problem(Problem.model_validate_json(wire))

        assert type(again) is kind
        assert vars(again) == vars(raised)

    def test_has_a_code_and_a_hint_of_its_own(self, kind: type[OctarmError]) -> None:
        problem = kind("it broke").problem()

        assert problem.code == kind.default_code
        assert problem.recovery_hint == kind.default_hint
        assert problem.title
        assert kind.exit_code in (1, 2, 3)

    def test_is_cut_to_the_limits_of_a_problem(self, kind: type[OctarmError]) -> None:
        many = [FieldError(field=str(number), message="bad") for number in range(200)]

        problem = kind("x" * 10_000, "y" * 10_000, errors=many).problem()

        assert (len(problem.detail), len(problem.recovery_hint)) == (4000, 1000)
        assert len(problem.errors or []) == 100


def test_a_problem_without_detail_is_raised_with_its_title() -> None:
    problem = Problem(title="Gone", status=404, code="TASK_NOT_FOUND", category="not_found")

    assert str(errors.from_problem(problem)) == "Gone"


def test_field_errors_name_the_path_and_leave_out_the_input() -> None:
    class Inner(BaseModel):
        numbers: list[int]

    with pytest.raises(ValidationError) as refused:
        Inner.model_validate({"numbers": [1, "secret"]})

    (found,) = errors.field_errors(refused.value.errors())
    assert found.field == "numbers.1"
    assert "secret" not in found.message
