"""Subjects: one place spells them, and nothing but tokens ever enters one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octarm.models import subjects
from octarm.models.ids import is_token
from octarm.models.subjects import GET_QUEUE, QUERIES, RUN_TASKS, SUBJECTS, TASK_EVENTS


class TestSubject:
    def test_filters_with_a_star_for_each_parameter(self) -> None:
        assert TASK_EVENTS.pattern == "octarm.v1.evt.tasks.*.*.*"

    def test_stands_for_one_place(self) -> None:
        assert RUN_TASKS.at(arm_id="echo-1") == "octarm.v1.cmd.arm.run.echo-1"
        assert GET_QUEUE.at(shard=3) == "octarm.v1.qry.queue.get.3"

    def test_filters_on_what_is_known(self) -> None:
        assert TASK_EVENTS.matching(tenant="acme") == "octarm.v1.evt.tasks.*.acme.*"
        with pytest.raises(subjects.NotASubjectToken, match="tenant cannot stand"):
            TASK_EVENTS.matching(tenant=">")

    def test_of_task_events_says_what_they_are_good_for(self) -> None:
        verbs = ["accepted", "ready", "completed", "failed", "retried", "late_result"]

        kinds = [subjects.what_of(verb) for verb in verbs]

        assert kinds == ["moved", "moved", "completed", "stopped", "stopped", "moved"]

    def test_of_task_events_spreads_tasks_over_buckets(self) -> None:
        buckets = {subjects.event_bucket(f"tsk_{n}") for n in range(500)}

        assert buckets == set(range(subjects.EVENT_BUCKETS))

    @pytest.mark.parametrize(
        "bad", ["", "a.b", "*", ">", "a b", "a\r\nb", "a\n", "a\0", "\U0001f600", "x" * 300]
    )
    def test_refuses_what_is_not_one_token(self, bad: str) -> None:
        with pytest.raises(subjects.NotASubjectToken, match="arm_id cannot stand"):
            RUN_TASKS.at(arm_id=bad)

    @given(st.text())
    def test_has_as_many_tokens_as_its_pattern_whatever_is_put_in(self, text: str) -> None:
        try:
            subject = RUN_TASKS.at(arm_id=text)
        except subjects.NotASubjectToken:
            return
        assert subject.count(".") == RUN_TASKS.pattern.count(".")
        assert all(is_token(token) for token in subject.split("."))

    def test_is_listed(self) -> None:
        constants = vars(subjects).values()

        assert set(SUBJECTS) == {s for s in constants if isinstance(s, subjects.Subject)}
        assert set(QUERIES) == {q for q in constants if isinstance(q, subjects.Query)}

    def test_is_kept_by_one_stream_alone(self) -> None:
        patterns = [subject.pattern for subject in SUBJECTS if subject.stream]

        assert len(patterns) == len(set(patterns))


class TestShardOf:
    def test_never_changes(self) -> None:
        assert subjects.shard_of("acme", "tsk_01ka4z3v5we2t9r8q7p6n5m4k3", 64) == 45

    @given(st.text(), st.text(), st.integers(1, subjects.MAX_SHARDS))
    def test_is_one_of_the_shards(self, tenant: str, task_id: str, shards: int) -> None:
        assert 0 <= subjects.shard_of(tenant, task_id, shards) < shards


@pytest.mark.parametrize(
    ("pattern", "subject", "reads"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.*", "a.b c", False),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "b.c", False),
        (">", "a.b", True),
    ],
)
def test_a_pattern_reads_subjects(pattern: str, subject: str, reads: bool) -> None:
    assert subjects.matches(pattern, subject) is reads


def test_message_ids_name_kind_task_and_attempt() -> None:
    names = (subjects.place_msg_id, subjects.result_msg_id)

    assert [name("tsk_1", 2) for name in names] == ["p:tsk_1:2", "r:tsk_1:2"]
