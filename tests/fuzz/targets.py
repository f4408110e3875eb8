"""What reads bytes that anybody may have written: a target raises only where there is a bug.

`make fuzz` runs them under atheris; their corpora are replayed with the ordinary tests.
"""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import BaseModel, ValidationError

from octarm.arm_registry.domain.beats import NotABeat, read_beat
from octarm.common.bus.delivery import ACK, Dead
from octarm.common.bus.requests import read_reply
from octarm.common.bus.wire import is_subject, read_headers
from octarm.common.telemetry import tracing
from octarm.common.testing.fakes import NOON, FakeClock
from octarm.gateway.domain import headers
from octarm.gateway.routes.bodies import read_as, read_object
from octarm.ledger.domain.news import AttemptNews
from octarm.ledger.domain.submissions import read_plain
from octarm.ledger.domain.tasks import new_task, ready_task
from octarm.memory.domain import paging
from octarm.models import hot, strict_json
from octarm.models.contracts import TaskContract, TaskSubmission
from octarm.models.errors import OctarmError, Unparsable
from octarm.models.queries import SubmitAnswers
from octarm.models.results import ExecutionResult
from octarm.models.subjects import (
    ATTEMPTS_UPDATED,
    HEARTBEAT,
    RESULT,
    RESULTS_REPORTED,
    RUN_TASKS,
)
from octarm.orchestrator.results import ResultsConsumer
from tests.support.deliveries import a_delivery
from tests.support.messages import MODELS

CORPUS: Final = Path(__file__).with_name("corpus")
TASK: Final = "tsk_01h455vb4pex5vsknk084sn02q"
STRUCTS: Final[list[type[msgspec.Struct]]] = sorted(
    msgspec.Struct.__subclasses__(), key=lambda kind: kind.__name__
)
STRUCTS_OF_HOT: Final = [kind for kind in STRUCTS if kind.__module__ == hot.__name__]
KINDS: Final[list[type[BaseModel]]] = [MODELS[name] for name in sorted(MODELS)]
SUBJECTS: Final = (
    RESULT.at(arm_id="one"),
    RESULTS_REPORTED.at(arm_id="one"),
    RUN_TASKS.at(arm_id="one"),
    ATTEMPTS_UPDATED.at(arm_id="one"),
)


def results(data: bytes) -> None:
    """What the ledger records of a message is JSON that it, and whoever asks, can read again."""
    recorded: list[AttemptNews] = []

    async def record(news: list[AttemptNews]) -> dict[tuple[str, int], str]:
        recorded.extend(news)
        return {}

    delivery = a_delivery(SUBJECTS[data[0] % len(SUBJECTS)] if data else "", data[1:])
    (outcome,) = _at_once(ResultsConsumer(record, FakeClock(), patience_s=0)([delivery]))
    assert outcome is ACK or isinstance(outcome, Dead)
    for news in recorded:
        assert news.decision is None or json.loads(news.decision)
        if news.result is not None:
            json.loads(news.body, parse_constant=_refuse)
            ExecutionResult.model_validate_json(news.body)


def structs(data: bytes) -> None:
    """What a struct of the hot path reads it writes again."""
    kind = STRUCTS_OF_HOT[data[0] % len(STRUCTS_OF_HOT)] if data else hot.Result
    try:
        read = msgspec.json.decode(data[1:], type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    msgspec.json.encode(read)


def models(data: bytes) -> None:
    """What a model reads it writes, and from that it reads and writes the same again.

    Numbers beyond a double (1e400) in free JSON are read as infinite and written as null.
    """
    kind = KINDS[data[0] % len(KINDS)] if data else TaskSubmission
    try:
        read = kind.model_validate_json(data[1:])
    except ValidationError:
        return
    written = read.model_dump_json()
    assert kind.model_validate_json(written).model_dump_json() == written


def replies(data: bytes) -> None:
    """A reply is an answer, a problem, or not understood."""
    try:
        read_reply(data, SubmitAnswers)
    except (OctarmError, ValidationError):
        return


def beats(data: bytes) -> None:
    """Every figure of a beat is within its limits."""
    try:
        beat = read_beat(HEARTBEAT.at(arm_id="one", instance_id="i"), data)
    except NotABeat:
        return
    assert 0 <= beat.slots <= 10_000
    assert 0 <= beat.running <= 10_000
    assert 0 <= beat.error_rate <= 1
    assert 0.1 <= beat.interval_s <= 60
    assert 0 <= beat.avg_latency_ms <= 86_400_000


def header_block(data: bytes) -> None:
    """A block of headers is read whatever is in it."""
    for name, value in read_headers(b"NATS/1.0\r\n" + data).items():
        assert "\r\n" not in name + value


def http_headers(data: bytes) -> None:
    """What headers are believed has no odd character left."""
    values = data.decode("latin-1").split("\n")
    correlation = headers.correlation_id(values)
    assert correlation is None or is_subject(correlation)
    key = headers.credential(values[:1], values[1:])
    assert key is None or isinstance(key, str)
    for read in (headers.idempotency_key, headers.last_event_id):
        try:
            value: object = read(values)
        except OctarmError:
            continue
        assert value is None or str(value).isprintable()
    assert tracing.valid(values[0]) in (True, False)


def body(data: bytes) -> None:
    """JSON from outside reads the same in Python's own reader, or is refused by name."""
    try:
        value = strict_json.loads(data)
    except Unparsable as error:
        error.problem().model_dump_json()
        return
    assert value == json.loads(data)


def submission(data: bytes) -> None:
    """A submission that is accepted becomes a contract that an arm can read.

    What is read without the model is what the model reads.
    """
    plain = read_plain(data)
    if plain is not None:
        model = TaskSubmission.model_validate_json(data)
        one, other = (
            new_task(asked, task_id=TASK, tenant="acme", traceparent="", now=NOON)
            for asked in (plain, model)
        )
        assert one == other
    try:
        wanted = read_as(TaskSubmission, read_object(data))
        task = new_task(wanted, task_id=TASK, tenant="acme", traceparent="", now=NOON)
    except OctarmError as error:
        error.problem().model_dump_json()
        return
    contract = TaskContract.model_validate_json(task.contract)
    assert contract.goal == wanted.goal
    msgspec.json.decode(msgspec.json.encode(ready_task(task)), type=hot.ReadyTask)


def cursors(data: bytes) -> None:
    """A cursor that nobody gave is refused."""
    try:
        read = paging.read_cursor(paging.Question("acme"), data.decode("latin-1"))
    except Unparsable:
        return
    assert read is None or read.isprintable()


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (
        results, structs, models, replies, beats,
        header_block, http_headers, body, submission, cursors,
    )
}  # fmt: skip
# Targets of JSON: the first byte chooses what the rest is read as, or everything is read.
CHOOSING: Final = ("results", "structs", "models")
PLAIN: Final = ("replies", "beats", "body", "submission")


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is in a result")


def _at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run what awaits nothing real."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")
