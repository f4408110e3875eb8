from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from octarm.executor.job import Job
from octarm.executor.limits import LimitName, Limits, Outcome
from octarm.executor.run_task import MAX_OUTPUT_BYTES, RunTask, output_of, verdict
from octarm.models.errors import InvalidRequest
from tests.support.arm_stage import a_task


@dataclass
class FakeRunner:
    """Ends every job the same way and keeps what it was given."""

    outcome: Outcome
    jobs: list[Job] = field(default_factory=list)
    limits: list[Limits] = field(default_factory=list)

    async def run(self, job: Job, limits: Limits) -> Outcome:
        self.jobs.append(job)
        self.limits.append(limits)
        return self.outcome


@dataclass
class AnAttempt:
    attempt: int = 2
    arm_id: str = "executor"
    instance_id: str = "i-1"
    time_limit_s: float | None = None


def an_outcome(**fields: Any) -> Outcome:
    given: dict[str, Any] = {"stdout": "", "stderr": "", "exit_code": 0, "duration_ms": 5}
    return Outcome(**given | fields)


def a_job(expect_exit_code: int = 0) -> Job:
    return Job("shell", "true", expect_exit_code=expect_exit_code)


class TestRunTask:
    async def test_reports_who_ran_what(self) -> None:
        runner = FakeRunner(an_outcome(stdout="hi"))

        result = await RunTask(runner, Limits())(a_task(context={"command": "ls"}), AnAttempt())

        assert (result.status, result.attempt, result.instance_id) == ("success", 2, "i-1")
        assert result.error is None
        assert result.provenance.command_hash == runner.jobs[0].command_hash

    async def test_ends_a_little_before_the_task_would_be_cut_off(self) -> None:
        runner = FakeRunner(an_outcome())
        run_task = RunTask(runner, Limits(wall_s=60))

        for timeout_s, left_s in ((300, None), (10, None), (1, 50.0), (300, 2.0)):
            task = a_task(context={"command": "ls"}, timeout_seconds=timeout_s)
            await run_task(task, AnAttempt(time_limit_s=left_s))

        assert [limits.wall_s for limits in runner.limits] == [60, 9.7, 0.7, 1.7]

    @pytest.mark.parametrize(
        ("constraints", "criteria", "status"),
        [
            ({}, [], "failure"),
            ({"expect_exit_code": 4}, [], "success"),
            ({}, [{"kind": "exit_code", "code": 4}], "success"),
            ({"expect_exit_code": 5}, [{"kind": "exit_code", "code": 4}], "failure"),
        ],
    )
    async def test_the_expected_exit_code_decides(
        self, constraints: dict[str, Any], criteria: list[Any], status: str
    ) -> None:
        task = a_task(
            context={"command": "ls"}, constraints=constraints, acceptance_criteria=criteria
        )

        result = await RunTask(FakeRunner(an_outcome(exit_code=4)), Limits())(task, AnAttempt())

        assert result.status == status
        assert not result.retryable

    async def test_a_task_without_a_command_names_the_field(self) -> None:
        with pytest.raises(InvalidRequest) as refused:
            await RunTask(FakeRunner(an_outcome()), Limits())(a_task(), AnAttempt())

        assert refused.value.errors is not None
        assert refused.value.errors[0].field == "context"
        assert not refused.value.retryable


class TestVerdict:
    @pytest.mark.parametrize(
        ("limit", "code"),
        [
            ("time", "EXECUTION_TIMEOUT"),
            ("cpu", "QUOTA_EXCEEDED"),
            ("memory", "QUOTA_EXCEEDED"),
            ("files", "QUOTA_EXCEEDED"),
            ("output", "QUOTA_EXCEEDED"),
        ],
    )
    def test_a_limit_fails_whatever_exit_code_was_expected(
        self, limit: LimitName, code: str
    ) -> None:
        error = verdict(a_job(137), an_outcome(exit_code=137, limit=limit))

        assert error is not None
        assert error.code == code

    def test_the_expected_exit_code_is_no_error(self) -> None:
        assert verdict(a_job(3), an_outcome(exit_code=3)) is None


class TestOutput:
    def test_has_the_documented_fields(self) -> None:
        assert output_of(an_outcome(stdout="a", stderr_truncated=True)) == {
            "stdout": "a",
            "stderr": "",
            "exit_code": 0,
            "duration_ms": 5,
            "truncated": True,
            "stdout_truncated": False,
            "stderr_truncated": True,
            "limit": None,
        }

    @pytest.mark.parametrize("text", ["\0" * 64_000, "🦑" * 64_000, '"\\' * 64_000])
    def test_fits_a_result_however_it_grows_as_json(self, text: str) -> None:
        output = output_of(an_outcome(stdout=text, stderr=text))

        assert isinstance(output, dict)
        assert len(msgspec.json.encode(output)) < MAX_OUTPUT_BYTES + 500
        assert (output["stdout_truncated"], output["stderr_truncated"]) == (True, True)
        assert output["stdout"]
