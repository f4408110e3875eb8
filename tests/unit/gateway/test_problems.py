"""How the framework's refusals are said."""

import pytest

from octarm.gateway.domain.problems import bad_parameters, from_status
from octarm.gateway.usecases.submit import accepted
from octarm.models.errors import OctarmError
from octarm.models.queries import SubmitAnswer


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "ROUTE_NOT_FOUND"),
        (405, "METHOD_NOT_ALLOWED"),
        (418, "INVALID_REQUEST"),
        (500, "INTERNAL"),
    ],
)
def test_each_status_has_a_code_and_a_hint(status: int, code: str) -> None:
    error = from_status(status, "detail")

    assert error.code == code
    assert error.recovery_hint


def test_bad_parameters_are_named() -> None:
    error = bad_parameters([{"loc": ("query", "limit"), "msg": "too small"}])

    assert "query.limit" in error.message
    assert error.errors is not None
    assert error.errors[0].message == "too small"


def test_an_empty_answer_is_an_error_of_ours() -> None:
    with pytest.raises(OctarmError, match="empty answer"):
        accepted(SubmitAnswer())
