"""The msgspec structs of the hot path say the same as the models they stand for."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from pydantic import BaseModel, ValidationError

from octarm.models import arms, commands, episodes, events, hot, hot_episodes, queries, results
from octarm.models.schemas.catalogue import models_of
from tests.support.json_strategies import json_of
from tests.support.messages import golden, grown, with_value

TWINS: dict[type[msgspec.Struct], type[BaseModel]] = {
    hot.ReadyTask: commands.ReadyTask,
    hot.PlaceTasks: commands.PlaceTasks,
    hot.RunTask: commands.RunTask,
    hot.RunTasks: commands.RunTasks,
    hot.Score: commands.Score,
    hot.AttemptUpdate: commands.AttemptUpdate,
    hot.AttemptsUpdated: commands.AttemptsUpdated,
    hot.CallSpend: commands.CallSpend,
    hot.SpendReported: commands.SpendReported,
    hot.Provenance: results.ProvenanceMetadata,
    hot.Result: results.ExecutionResult,
    hot.ResultsReported: commands.ResultsReported,
    hot.TaskEvents: events.TaskEvents,
    hot.TasksEnded: events.TasksEnded,
    hot.RunningAttempt: arms.RunningAttempt,
    hot.Heartbeat: arms.Heartbeat,
    hot.SubmitTask: commands.SubmitTask,
    hot.SubmitTasks: queries.SubmitTasks,
    hot.Accepted: queries.Accepted,
    hot.SubmitAnswer: queries.SubmitAnswer,
    hot.SubmitAnswers: queries.SubmitAnswers,
    hot_episodes.EpisodeOpening: episodes.EpisodeOpening,
    hot_episodes.EpisodeWrite: episodes.EpisodeWrite,
    hot_episodes.WriteEpisodes: episodes.WriteEpisodes,
    hot_episodes.KeptWrite: episodes.KeptWrite,
    hot_episodes.KeepWrites: episodes.KeepWrites,
}
# What is not a twin: parts of one, and all task events in one.
OTHERS = {hot.ResultKey, hot.ResultKeys, hot.TaskEvent, hot.TaskEventKey}
TASK_EVENTS = [model for model in models_of(events) if issubclass(model, events.TaskEvent)]

# The hot path copies these without a look.
PASSED_ON = {
    name: golden(name)
    for name in ("TaskContract", "TaskSubmission", "Problem", "ExecutionResult", "TaskEnding")
}

BAD_TEXTS = ["", "a.b", "a b", "*", ">", "x\n", "x\r\n", "x\0", "\U0001f600", "x" * 5000, "1"]
BAD_TIMES = ["2026-11-21T12:00:00", "2026-11-21", "1700000000", "2026-11-21T12:00:00Z\n"]
BAD_NUMBERS = [-1, 0, 1.5, 2**31, 2**53 + 1, 2**63, 2**64, 1e300, float("nan"), float("inf")]
SPOILERS: list[Any] = [None, True, [], {}, *BAD_TEXTS, *BAD_TIMES, *BAD_NUMBERS]

twins = pytest.mark.parametrize(
    ("twin", "model"), TWINS.items(), ids=[twin.__name__ for twin in TWINS]
)
events_ = pytest.mark.parametrize("model", TASK_EVENTS, ids=lambda model: model.__name__)


def test_every_struct_has_a_model() -> None:
    structs = {
        member
        for member in [*vars(hot).values(), *vars(hot_episodes).values()]
        if isinstance(member, type) and issubclass(member, msgspec.Struct)
    }

    assert structs - {msgspec.Struct} == TWINS.keys() | OTHERS


@twins
class TestTwin:
    def test_has_the_same_fields(self, twin: type[msgspec.Struct], model: type[BaseModel]) -> None:
        fields = {field.name: field.required for field in msgspec.structs.fields(twin)}

        assert fields == {name: info.is_required() for name, info in model.model_fields.items()}

    @settings(max_examples=10, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_reads_and_writes_what_the_model_does(
        self, twin: type[msgspec.Struct], model: type[BaseModel], data: st.DataObject
    ) -> None:
        text = json.dumps(data.draw(json_of(model, PASSED_ON))).encode()
        assume(_parses(model, text))
        wanted = model.model_validate_json(text)

        received = msgspec.json.decode(text, type=twin)
        resent = msgspec.json.decode(wanted.model_dump_json(), type=twin)

        assert model.model_validate_json(msgspec.json.encode(received)) == wanted
        assert model.model_validate_json(msgspec.json.encode(resent)) == wanted

    def test_refuses_the_same_bad_values(
        self, twin: type[msgspec.Struct], model: type[BaseModel]
    ) -> None:
        message = grown(model.__name__)

        for path in _checked_paths(twin, message):
            for bad in SPOILERS:
                text = json.dumps(with_value(message, path, bad)).encode()
                assert _reads(twin, text) == _parses(model, text), (path, bad)


@pytest.mark.parametrize("spoiled", [{"status": "success"}, {"error": None}])
def test_a_result_has_an_error_exactly_when_it_is_no_success(spoiled: dict[str, Any]) -> None:
    text = json.dumps(golden("ExecutionResult") | spoiled).encode()

    assert not _reads(hot.Result, text)
    assert not _parses(results.ExecutionResult, text)


class TestTaskEvent:
    def test_has_the_fields_of_all_events(self) -> None:
        fields = {field.name for field in msgspec.structs.fields(hot.TaskEvent)}

        assert fields == {name for model in TASK_EVENTS for name in model.model_fields}

    @events_
    def test_needs_no_more_than_any_event(self, model: type[BaseModel]) -> None:
        required = {f.name for f in msgspec.structs.fields(hot.TaskEvent) if f.required}

        assert required - {"type"} <= {
            name for name, info in model.model_fields.items() if info.is_required()
        }

    @events_
    def test_reads_every_event(self, model: type[BaseModel]) -> None:
        text = json.dumps(golden(model.__name__)).encode()

        event = msgspec.json.decode(text, type=hot.TaskEvent)

        written = msgspec.json.encode(event)
        assert model.model_validate_json(written) == model.model_validate_json(text)


def test_a_result_key_is_part_of_a_result() -> None:
    message = golden("ExecutionResult")

    key = msgspec.json.decode(json.dumps(message).encode(), type=hot.ResultKey)

    names = ("task_id", "attempt", "arm_id", "instance_id", "tokens_used", "llm_calls")
    assert {name: getattr(key, name) for name in names} == {name: message[name] for name in names}
    assert json.loads(bytes(key.error)) == message.get("error")


def _reads(twin: type[msgspec.Struct], text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=twin)
    except msgspec.MsgspecError:
        return False
    return True


def _parses(model: type[BaseModel], text: bytes) -> bool:
    try:
        model.model_validate_json(text)
    except ValidationError:
        return False
    return True


def _checked_paths(kind: Any, message: Any, prefix: str = "") -> Iterator[str]:
    """Name each value of a message that its struct looks into; Raw parts are only passed on."""
    for field in msgspec.structs.fields(kind):
        path = f"{prefix}{field.name}"
        if Raw in (inner := _inner_types(field.type)) or field.name == "problem":
            continue
        yield path
        if field.name not in message:
            continue  # It came after the golden message.
        structs = [one for one in inner if isinstance(one, type) and _is_struct(one)]
        value = message[field.name]
        if structs:
            items = [(f"{path}.0.", value[0])] if isinstance(value, list) else [(f"{path}.", value)]
            for below, part in items:
                yield from _checked_paths(structs[0], part, below)
        elif isinstance(value, list):
            yield f"{path}.0"
        elif isinstance(value, dict):
            yield f"{path}.{next(iter(value))}"


def _is_struct(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct)


def _inner_types(kind: Any) -> list[Any]:
    """Give the types that an annotation is made of."""
    parts = getattr(kind, "__args__", ())
    return [kind, *(inner for part in parts for inner in _inner_types(part))]
