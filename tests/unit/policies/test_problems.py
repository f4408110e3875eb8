from octarm.policies.problems import Loaded, Problem, hint_for, problem_of
from octarm.policies.versions import digest


def test_a_source_with_an_error_cannot_be_called() -> None:
    assert Loaded("d", (Problem("warning", "hm"),)).ok
    assert not Loaded("d", (Problem("error", "no"),)).ok


def test_a_problem_says_what_to_do_when_that_is_known() -> None:
    problem = problem_of(3, "error: Variable `x` not found", certain=True)

    assert problem.severity == "error"
    assert problem.message == "Variable `x` not found"
    assert "policy-helpers" in problem.hint
    assert problem_of(None, "odd", certain=False) == Problem("warning", "odd")
    assert hint_for("odd") == ""


def test_the_same_content_is_the_same_version() -> None:
    assert digest("x") == digest("x", "starlark")
    assert len({digest("x"), digest("y"), digest("x", "yaml")}) == 3
    assert len(digest("x")) == 64
