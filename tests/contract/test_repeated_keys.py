"""Whoever reads a message of the bus takes the last of repeated keys."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import pytest

from octarm.common.testing.fakes import NOON
from octarm.ledger.domain.submissions import read_plain
from octarm.ledger.domain.tasks import new_task
from octarm.models import hot
from octarm.models.contracts import TaskContract, TaskSubmission
from octarm.models.results import ExecutionResult
from tests.support.ledger import a_result

TASK = "tsk_01h455vb4pex5vsknk084sn02q"
SUBMISSION = b'{"goal":"first","goal":"last","context":{"x":1,"x":{"y":1,"y":2}}}'
TWICE = b'{"x":1,"x":{"y":1,"y":2}}'
READERS: list[Callable[[bytes], Any]] = [json.loads, msgspec.json.decode]


@pytest.mark.parametrize("read", READERS)
def test_readers_of_free_json_take_the_last(read: Callable[[bytes], Any]) -> None:
    assert read(TWICE) == {"x": {"y": 2}}


@pytest.mark.parametrize("read", [read_plain, TaskSubmission.model_validate_json])
def test_a_submission_becomes_a_contract_with_each_key_once(
    read: Callable[[bytes], Any],
) -> None:
    task = new_task(read(SUBMISSION), task_id=TASK, tenant="acme", traceparent="", now=NOON)

    assert task.goal == "last"
    assert task.contract.count(b'"goal"') == 1
    assert task.contract.count(b'"x"') == 1
    assert TaskContract.model_validate_json(task.contract).context == {"x": {"y": 2}}


def test_a_result_reads_the_same_to_all() -> None:
    body = a_result(TASK, tokens_used=7).replace(b'"tokens_used"', b'"tokens_used":1,"tokens_used"')

    assert body.count(b'"tokens_used"') == 2
    assert msgspec.json.decode(body, type=hot.Result).tokens_used == 7
    assert ExecutionResult.model_validate_json(body).tokens_used == 7
    assert json.loads(body)["tokens_used"] == 7


@pytest.mark.integration
def test_postgres_takes_the_last_too(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute(
            "select %s::json -> 'x' ->> 'y', %s::jsonb -> 'x' ->> 'y'",
            [TWICE.decode(), TWICE.decode()],
        ).fetchone()

    assert row == ("2", "2")
