"""What is read without its model says the same as the model, and what the model refuses is not."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from octarm.common.testing.fakes import NOON
from octarm.ledger.domain.submissions import (
    MAX_BRACKETS,
    MAX_PLAIN_BYTES,
    PlainBudget,
    PlainSubmission,
    read_plain,
)
from octarm.ledger.domain.tasks import NewTask, Submission, new_task
from octarm.models.contracts import ResourceBudget, TaskSubmission
from octarm.models.errors import OctarmError
from tests.contract.test_hot_twins import SPOILERS
from tests.support.json_strategies import json_of
from tests.support.messages import golden, with_value

TASK = "tsk_01h455vb4pex5vsknk084sn02q"
PLAIN: dict[str, Any] = {
    "goal": "count the words",
    "constraints": {"language": "en"},
    "context": {"text": "one two", "n": [1, 2.5, None, True, {"deep": 10**30}]},
    "acceptance_criteria": ["it is a number"],
    "budget": {"max_tokens": 5, "max_cost_dollars": 1, "max_retries": 3},
    "required_capabilities": ["b", "a", "b"],
    "slots": 3,
    "assigned_arm": "counter",
    "parent_task_id": "tsk_01h455vb4pex5vsknk084sn02r",
    "depends_on": ["tsk_01h455vb4pex5vsknk084sn02s"],
    "on_dependency_failure": "skip",
    "priority": 6,
    "tier": "interactive",
    "timeout_seconds": 299,
    "security_policy": "strict",
    "idempotency_key": "k",
    "labels": {"team": "sales\u00e9"},
}
DEFAULTS: dict[str, Any] = {
    "constraints": {},
    "context": {},
    "acceptance_criteria": [],
    "budget": {},
    "required_capabilities": [],
    "assigned_arm": None,
    "depends_on": [],
    "on_dependency_failure": "fail",
    "priority": 5,
    "tier": None,
    "not_before": None,
    "deadline": None,
    "timeout_seconds": 300,
    "retry": None,
    "idempotency_key": None,
    "labels": {},
}
RAW = [
    b"",
    b"null",
    b"[]",
    b'{"goal":"x"',
    b'{"goal":"x"}x',
    b'\xef\xbb\xbf{"goal":"x"}',
    b'{"goal":"\xff"}',
    b'{"goal":"\xed\xa0\x80"}',
    b'{"goal":"\\ud800"}',
    b'{"goal":"a\x00b"}',
    b'{"goal":"a\\u0000b"}',
    b'{"goal":"a\\\\u0000b"}',
    b'{"goal":"x","context":{"a":"\\u0000"}}',
    b'{"goal":"x","context":{"\\u0000":1}}',
    b'{"goal":"x","labels":{"a":"\\u0000"}}',
    b'{"goal":"x","context":{"a":NaN}}',
    b'{"goal":"x","context":{"a":-Infinity}}',
    b'{"goal":"x","context":{"a":1e400}}',
    b'{"goal":"x","context":{"a":-0.0,"b":-0,"c":1e16,"d":1e-7,"e":123456789012345678}}',
    b'{"goal":"x","context":{"a":1' + b"0" * 400 + b"}}",
    b'{"goal":"x","priority":1' + b"0" * 400 + b"}",
    b'{"goal":"x","context":' + b'{"a":' * 99 + b"1" + b"}" * 99 + b"}",
    b'{"goal":"x","context":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    b'{"goal":"x","context":{"a":[' + b"1e15," * 30_000 + b"1]}}",
    b'{"goal":"x","goal":"y"}',
    b'{"goal":"","goal":"y"}',
    b'{"goal":"x","context":{"a":"\xff"},"context":{}}',
    b'{"goal":"x","context":[],"context":{}}',
    b'{"goal":"x","context":{"a":1,"a":2}}',
    b'{"goal":"x","budget":{"max_tokens":9007199254740993}}',
    b'{"goal":"x","budget":{"max_tokens":0}}',
    b'{"goal":"x","budget":{"max_tokens":1.0}}',
    b'{"goal":"x","budget":{"max_tokens":"1"}}',
    b'{"goal":"x","budget":{"max_tokens":true}}',
    b'{"goal":"x","budget":{"max_cost_dollars":1e-7}}',
    b'{"goal":"x","budget":{"max_cost_dollars":NaN}}',
    b'{"goal":"x","budget":{"unknown":1}}',
    b'{"goal":"x","budget":null}',
    b'{"goal":"x","unknown":1}',
    b'{"goal":"x","priority":"high"}',
    b'{"goal":"x","priority":5.0}',
    b'{"goal":"x","deadline":"2026-11-21T12:00:00"}',
    b'{"goal":"x","not_before":"2027-11-21T12:00:00Z","deadline":"2027-11-21T12:00:00Z"}',
    b'{"goal":"x","acceptance_criteria":[{"kind":"exit_code","code":0}]}',
    b'{"goal":"x","acceptance_criteria":[{"kind":"exit_code","code":256}]}',
    b'{"goal":" \\t\\n"}',
    b'{"goal":"\xe2\x80\x83"}',
    b'{"goal":"x","required_capabilities":["a\\n"]}',
    b'{"goal":"x","assigned_arm":"a.b"}',
    b'{"goal":"x","depends_on":["' + TASK.encode() + b'\\n"]}',
    b'{"goal":"x","depends_on":["' + TASK.encode() + b'"]}',
]


def the_task(submission: Submission) -> NewTask | str:
    try:
        return new_task(submission, task_id=TASK, tenant="acme", traceparent="", now=NOON)
    except OctarmError as error:
        return str(error)


def holds(body: bytes) -> bool:
    """Hold both readers to the same task; tells whether the body is plain."""
    plain = read_plain(body)
    if plain is not None:
        assert the_task(plain) == the_task(TaskSubmission.model_validate_json(body))
    return plain is not None


@pytest.mark.parametrize(
    ("twin", "model"), [(PlainSubmission, TaskSubmission), (PlainBudget, ResourceBudget)]
)
def test_has_the_fields_of_the_model_in_its_order(twin: Any, model: Any) -> None:
    assert [field.name for field in msgspec.structs.fields(twin)] == list(model.model_fields)


@pytest.mark.parametrize("name", PLAIN)
def test_most_submissions_are_plain(name: str) -> None:
    assert holds(json.dumps({"goal": "x", name: PLAIN[name]}).encode())
    assert holds(json.dumps(PLAIN, ensure_ascii=False).encode())


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_says_the_default_is_the_same_task(name: str) -> None:
    spelled = json.dumps({"goal": "x", name: DEFAULTS[name]}).encode()

    assert holds(spelled)
    plain = read_plain(spelled)
    assert plain is not None
    assert the_task(plain) == the_task(TaskSubmission(goal="x"))


@pytest.mark.parametrize("body", RAW, ids=lambda body: body[:60].decode("latin-1"))
def test_takes_nothing_that_the_model_refuses(body: bytes) -> None:
    holds(body)


def test_refuses_to_decide_what_is_large_or_deep() -> None:
    brackets = {"goal": "x", "context": {"a": [[]] * MAX_BRACKETS}}
    long = {"goal": "x", "context": {"a": "x" * MAX_PLAIN_BYTES}}

    assert read_plain(json.dumps(brackets).encode()) is None
    assert read_plain(json.dumps(long).encode()) is None


def test_a_spoiled_submission_is_not_plain_or_good() -> None:
    for path in [*PLAIN, "context.n.4.deep", "budget.max_tokens", "labels.team", "depends_on.0"]:
        for bad in SPOILERS:
            holds(json.dumps(with_value(PLAIN, path, bad)).encode())
            holds(json.dumps(with_value(golden("TaskSubmission"), "context", bad)).encode())


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_submission_becomes_the_same_task(data: st.DataObject) -> None:
    body = json.dumps(data.draw(json_of(TaskSubmission, {"RetryPolicy": None}))).encode()
    try:
        TaskSubmission.model_validate_json(body)
    except ValidationError:
        assume(False)

    holds(body)


FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.text(), FREE, max_size=4), st.booleans())
def test_free_json_is_written_as_the_model_writes_it(free: Any, ascii_only: bool) -> None:
    body = json.dumps({"goal": "x", "context": free}, ensure_ascii=ascii_only)

    holds(body.encode("utf-8", "surrogatepass"))


@settings(max_examples=500, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(min_size=0, max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_takes_nothing_of_a_broken_body_that_the_model_refuses(
    edits: list[tuple[int, int, bytes]],
) -> None:
    body = json.dumps(PLAIN, ensure_ascii=False).encode()
    for place, cut, put in edits:
        at = place % len(body)
        body = body[:at] + put + body[at + cut :]

    holds(body)
