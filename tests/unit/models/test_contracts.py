"""What a client may submit: bad-inputs rows 3, 6, 8, 9 and 20 at the model."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from octarm.models.contracts import MAX_CONTEXT_BYTES, TaskContract, TaskSubmission
from tests.support.json_strategies import json_of
from tests.support.messages import golden, with_value

NAN, INFINITY = float("nan"), float("inf")
WORSE_NUMBERS = [NAN, INFINITY, -INFINITY, -1, 2**63, 10**400, "1", True, [], {}]
BAD_DEADLINES = [
    "2026-11-21T12:00:00",
    "2026-11-21",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "1700000000",
    1_700_000_000,
    NAN,
    True,
    "tomorrow",
    "2026-13-01T00:00:00Z",
    "2026-11-21T12:00:00Z\n",
]
BAD: dict[str, list[Any]] = {
    "goal": ["", "   ", "\t\n", "\u2003", "x" * 10_001, 5, None, "a\0b", "\ud800"],
    "constraints": [[], {str(key): 1 for key in range(21)}, {"a": NAN}, {"a": "\0"}],
    "context": [
        [],
        "text",
        {"a": "x" * MAX_CONTEXT_BYTES},
        {"a": INFINITY},
        {"a": "\ud800"},
        {"a\0": 1},
    ],
    "acceptance_criteria": [
        "one",
        ["x"] * 21,
        [""],
        ["x" * 10_001],
        ["x" * 9_999] * 15,
        [5],
        [{"kind": "guess"}],
        [{"kind": "regex"}],
        [{"kind": "exit_code", "code": 256}],
        [{"kind": "exit_code", "code": "0"}],
        [{"kind": "numeric", "value": NAN}],
        [{"kind": "numeric", "value": 1, "tolerance": -1}],
        [{"kind": "contains", "text": "a", "more": 1}],
        [{"kind": "json_schema", "json_schema": {"const": "a\0"}}],
    ],
    "budget": [[], {"unknown": 1}, None],
    "budget.max_tokens": [0, 1.5, 2**53 + 1, *WORSE_NUMBERS],
    "budget.max_time_seconds": [0, 2**53 + 1, *WORSE_NUMBERS],
    "budget.max_llm_calls": [0, 2**53 + 1, *WORSE_NUMBERS],
    "budget.max_cost_dollars": [0, 1e10, *WORSE_NUMBERS],
    "budget.max_retries": [11, 0.5, *WORSE_NUMBERS],
    "required_capabilities": [["A"], ["a b"], ["x" * 65], [f"t{n}" for n in range(11)], "docs"],
    "assigned_arm": ["", "a.b", "*", ">", "a b", "a\r\nb", "a\n", "a\0", "\U0001f600", "a" * 300],
    "parent_task_id": ["tsk_*", "tsk_" + "0" * 300, "evt_01ka4z3v5we2t9r8q7p6n5m4k3", ""],
    "depends_on": [["tsk_>"], "tsk_", [None], ["tsk_01ka4z3v5we2t9r8q7p6n5m4k4"] * 101],
    "priority": [0, 11, 1.0, "urgent", "5", None, *WORSE_NUMBERS],
    "tier": ["fast", 1],
    "deadline": BAD_DEADLINES,
    "timeout_seconds": [0, 0.5, 1801, None, *WORSE_NUMBERS],
    "slots": [0, 1.0, 10_001, "2", None, *WORSE_NUMBERS],
    "security_policy": ["x" * 129, 1],
    "idempotency_key": ["", "x" * 129, 7, "a\0"],
    "labels": [
        {"": "x"},
        {"a b": "x"},
        {"a": "x" * 257},
        {"a": 1},
        {"a": "\0"},
        {f"k{n}": "" for n in range(21)},
    ],
}
UGLY = [
    "'; drop table task; --",
    "$(rm -rf /) `id` | cat > x",
    "octarm.v1.>.* \r\nNats-Rollup: all",
    "\u202egnp.exe",
    "zero\u200bwidth\ufeff",
    "\x1b[2J\x1b]0;title\x07",
    "{{ ''.__class__ }} %s {0} \\u0000",
]


class TestTaskSubmission:
    @pytest.mark.parametrize("path", BAD)
    @pytest.mark.bad_input(3, 9, 15)
    def test_refuses_bad_values_and_names_the_field(self, path: str) -> None:
        for bad in BAD[path]:
            with pytest.raises(ValidationError) as refused:
                TaskSubmission.model_validate(with_value(golden("TaskSubmission"), path, bad))

            places = [".".join(map(str, error["loc"])) for error in refused.value.errors()]
            assert all(place.startswith(path) for place in places), (bad, places)

    @pytest.mark.parametrize(
        "name", ["unknown", "task_id", "tenant", "created_at", "schema_version"]
    )
    def test_refuses_fields_that_are_not_the_clients(self, name: str) -> None:
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            TaskSubmission.model_validate({"goal": "Sum it up", name: "x"})

    @pytest.mark.parametrize("text", UGLY)
    def test_keeps_every_other_text_as_it_is(self, text: str) -> None:
        task = TaskSubmission.model_validate(
            {
                "goal": text,
                "context": {text: [text]},
                "acceptance_criteria": [text],
                "labels": {"a": text},
            }
        )

        again = TaskSubmission.model_validate_json(task.model_dump_json())

        assert (again.goal, again.context, again.labels) == (text, {text: [text]}, {"a": text})

    @pytest.mark.parametrize(("word", "number"), [("critical", 1), ("high", 3), ("low", 8)])
    def test_reads_priorities_in_words(self, word: str, number: int) -> None:
        assert TaskSubmission.model_validate({"goal": "x", "priority": word}).priority == number

    @pytest.mark.parametrize(
        ("given_", "tier"),
        [
            ({"priority": 5}, "interactive"),
            ({"priority": 6}, "batch"),
            ({"priority": 9, "tier": "interactive"}, "interactive"),
        ],
    )
    def test_has_the_tier_given_or_that_of_its_priority(
        self, given_: dict[str, Any], tier: str
    ) -> None:
        assert TaskSubmission.model_validate({"goal": "x"} | given_).effective_tier == tier

    def test_is_written_alike_by_every_process(self) -> None:
        tags = [f"tag{number}" for number in range(10)]
        task = TaskSubmission(goal="x", required_capabilities=frozenset(tags))

        assert json.loads(task.model_dump_json())["required_capabilities"] == tags

    def test_takes_no_deadline(self) -> None:
        assert TaskSubmission(goal="x", deadline=None).deadline is None

    @settings(max_examples=30, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def test_says_the_same_after_a_round_trip(self, data: st.DataObject) -> None:
        value = data.draw(json_of(TaskSubmission, {}))
        try:
            task = TaskSubmission.model_validate(value)
        except ValidationError:
            return

        assert TaskSubmission.model_validate_json(task.model_dump_json()) == task


class TestTaskContract:
    @pytest.mark.parametrize("path", ["parent_task_id", "depends_on.0"])
    def test_refuses_a_task_that_is_its_own_relative(self, path: str) -> None:
        task = golden("TaskContract")

        with pytest.raises(ValidationError, match="depend on itself"):
            TaskContract.model_validate(with_value(task, path, task["task_id"]))

    def test_refuses_an_unknown_version(self) -> None:
        with pytest.raises(ValidationError, match="schema_version"):
            TaskContract.model_validate(golden("TaskContract") | {"schema_version": "2"})

    def test_ignores_fields_of_later_producers(self) -> None:
        task = TaskContract.model_validate(golden("TaskContract") | {"added_later": 1})

        assert task == TaskContract.model_validate(golden("TaskContract"))
