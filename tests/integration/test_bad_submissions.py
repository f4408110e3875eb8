"""Submissions that make no sense, on the bus: each is refused by itself, its neighbours count."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest
from nats.aio.client import Client as NATS

from octarm.common.bus.connection import connected_to
from octarm.common.bus.delivery import ACK, Dead
from octarm.common.bus.requests import ask_raw, read_reply
from octarm.common.clock import SystemClock
from octarm.ledger.domain.changes import Known
from octarm.models import hot
from octarm.models.errors import OctarmError
from octarm.models.queries import SubmitAnswers
from octarm.models.subjects import SUBMIT_TASK, SUBMIT_TASKS
from octarm.orchestrator.intake import IntakeConsumer, SubmitResponder, gathered
from octarm.orchestrator.usecases.accept import AcceptTasks, Submitted
from tests.support.deliveries import a_delivery
from tests.support.ledger import Ledger
from tests.support.wait import PATIENCE_S

pytestmark = [pytest.mark.integration, pytest.mark.bad_input(1, 2, 3, 6)]

DEEP = b"[" * 20_000 + b"]" * 20_000
GOOD = b'{"goal":"good"}'
SPOILT = {
    "no-json": b"goal",
    "not-utf-8": b'{"goal":"\xff"}',
    "a-key-that-is-not-utf-8": b'{"goal":"x","idempotency_key":"\xff"}',
    "a-surrogate": b'{"goal":"\\ud800"}',
    "nul": b'{"goal":"a\\u0000b"}',
    "nan": b'{"goal":"x","context":{"n":NaN}}',
    "deep": b'{"goal":"x","context":{"d":%b}}' % (b"[" * 200 + b"]" * 200),
    "a-list": b"[]",
    "a-field-of-ours": b'{"goal":"x","tenant":"other"}',
    "a-number-without-end": b'{"goal":"x","priority":1%b}' % (b"0" * 400),
}
REQUESTS = {
    "empty": b"",
    "null": b"null",
    "no-tenant": b'{"submissions":[{"submission":{"goal":"x"}}]}',
    "a-tenant-with-wildcards": b'{"tenant":"a.>","submissions":[{"submission":{"goal":"x"}}]}',
    "a-tenant-not-utf-8": b'{"tenant":"\xff","submissions":[{"submission":{"goal":"x"}}]}',
    "none": b'{"tenant":"acme","submissions":[]}',
    "too-many": b'{"tenant":"acme","submissions":[%b]}'
    % b",".join([b'{"submission":{"goal":"x"}}'] * 1001),
    "deep": b'{"tenant":"acme","submissions":[{"submission":%b}]}' % DEEP,
    "deep-beside-it": b'{"x":%b,"tenant":"acme","submissions":[{"submission":{}}]}' % DEEP,
    "no-end": b'{"tenant":"acme","submissions":[' + b"[" * 50_000,
}


@pytest.fixture
async def nc(nats_url: str) -> AsyncGenerator[NATS, None]:
    async with connected_to(nats_url, name="test") as nc:
        yield nc


def accepting(ledger: Ledger) -> AcceptTasks:
    return AcceptTasks(ledger.intake, ledger.relay, SystemClock(), 1)


async def stored(ledger: Ledger) -> list[str]:
    return [goal for (goal,) in await ledger.execute("select contract->>'goal' from ledger.task")]


async def submit(ledger: Ledger, *bodies: bytes) -> list[Known | OctarmError]:
    return await accepting(ledger)(
        [Submitted("acme", hot.SubmitTask(msgspec.Raw(body))) for body in bodies]
    )


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
async def test_one_that_is_spoilt_does_not_harm_its_neighbours(
    ledger: Ledger, spoilt: bytes
) -> None:
    before, refused, behind = await submit(ledger, GOOD, spoilt, GOOD)

    assert isinstance(before, Known)
    assert isinstance(behind, Known)
    assert isinstance(refused, OctarmError)
    assert refused.recovery_hint
    assert not refused.retryable
    assert await stored(ledger) == ["good", "good"]


@pytest.mark.parametrize("request_body", REQUESTS.values(), ids=REQUESTS)
async def test_a_request_that_is_none_is_refused_and_the_next_is_answered(
    ledger: Ledger, nc: NATS, request_body: bytes
) -> None:
    await SubmitResponder(nc, gathered(accepting(ledger))).start()
    good = b'{"tenant":"acme","submissions":[{"submission":%b}]}' % GOOD

    refused = await ask_raw(nc, SUBMIT_TASKS.at(), request_body, timeout_s=PATIENCE_S)
    answered = await ask_raw(nc, SUBMIT_TASKS.at(), good, timeout_s=PATIENCE_S)

    with pytest.raises(OctarmError, match="not a submission"):
        read_reply(refused, SubmitAnswers)
    (answer,) = read_reply(answered, SubmitAnswers).answers
    assert answer.accepted is not None
    assert await stored(ledger) == ["good"]


async def test_one_that_wants_no_answer_does_not_harm_the_next(ledger: Ledger, nc: NATS) -> None:
    await SubmitResponder(nc, gathered(accepting(ledger))).start()
    good = b'{"tenant":"acme","submissions":[{"submission":%b}]}' % GOOD
    reconnects = nc.stats["reconnects"]

    await nc.publish(SUBMIT_TASKS.at(), good)
    answered = await ask_raw(nc, SUBMIT_TASKS.at(), good, timeout_s=PATIENCE_S)

    (answer,) = read_reply(answered, SubmitAnswers).answers
    assert answer.accepted is not None
    assert await stored(ledger) == ["good", "good"]
    assert nc.stats["reconnects"] == reconnects


@pytest.mark.parametrize("spoilt", [*SPOILT.values(), DEEP], ids=[*SPOILT, "too-deep-to-read"])
async def test_one_on_intake_is_buried_and_its_neighbours_are_accepted(
    ledger: Ledger, spoilt: bytes
) -> None:
    subject = SUBMIT_TASK.at(tenant="acme")
    batch = [
        a_delivery(subject, b'{"submission":%b}' % body, seq=seq)
        for seq, body in enumerate((GOOD, spoilt, GOOD))
    ]

    async with asyncio.timeout(60):
        before, buried, behind = await IntakeConsumer(gathered(accepting(ledger)))(batch)

    assert (before, behind) == (ACK, ACK)
    assert isinstance(buried, Dead)
    assert await stored(ledger) == ["good", "good"]
