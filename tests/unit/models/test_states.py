"""States and the five words."""

from octarm.models.states import TERMINAL, JobStatus, TaskState, job_status


def test_five_states_are_terminal() -> None:
    assert {state for state in TaskState if state.is_terminal} == TERMINAL
    assert len(TERMINAL) == 5


def test_every_state_has_a_word() -> None:
    words = {state: job_status(state) for state in TaskState}

    assert words[TaskState.WAITING] is JobStatus.QUEUED
    assert words[TaskState.VALIDATING] is JobStatus.RUNNING
    assert words[TaskState.TIMED_OUT] is words[TaskState.REJECTED] is JobStatus.FAILED
    assert set(words.values()) == set(JobStatus)
