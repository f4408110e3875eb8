"""Secrets and personal data that pass through the whole system are in none of its sinks."""

import asyncio
import json
from pathlib import Path
from typing import Final

import httpx
import nats
import pytest

from octarm.models.subjects import SUBMIT_TASK
from tests.e2e.conftest import Up
from tests.support.scraping import OPEN_METRICS, endpoints
from tests.support.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CANARIES: Final = (
    "sk-live-4f9Qz7Lr2Xc8Vb1Nm6Td",
    "canary.bird@example.org",
    "4111 1111 1111 1111",
    "correct-horse-7-battery",
)
TEXT: Final = f"{CANARIES[0]} {CANARIES[1]} {CANARIES[2]} password={CANARIES[3]}"
TRACE_ID: Final = "5af7651916cd43dd8448eb211c80319c"


@pytest.mark.bad_input(25)
async def test_no_sink_has_what_was_submitted(up: Up) -> None:
    task_id = await _submit_what_fails(up)
    await _bury(up)
    await wait_until(lambda: _spans(up, TRACE_ID) >= {"arm.run", "orchestrator.finish"}, 60)
    await wait_until(lambda: "orchestrator-accept-task" in _shown(up, "dlq", "list"), 60)

    letters = json.loads(_shown(up, "dlq", "list", "--json"))
    shown = [_shown(up, "dlq", "show", str(letter["seq"])) for letter in letters]
    scraped = {url: await _text(url) for url in endpoints(up.pids).values()}
    sinks = {
        **{str(path): path.read_text(errors="replace") for path in _files(up)},
        **scraped,
        "octarm dlq list": json.dumps(letters),
        "octarm dlq show": "\n".join(shown),
        "octarm logs": _shown(up, "logs", "--json"),
        "octarm trace": _shown(up, "trace", task_id, "--json"),
        "octarm arms": _shown(up, "arms", "list", "--json"),
        "octarm ledger verify": _shown(up, "ledger", "verify", "--live", "--json"),
    }

    assert "<API_KEY>" in sinks["octarm dlq show"], "the letter itself is there"
    assert TRACE_ID in sinks["octarm trace"]
    assert len(_files(up)) > 8
    assert any("octarm_orchestrator_tasks_ended_total" in text for text in scraped.values())
    leaks = {
        (sink, canary) for sink, text in sinks.items() for canary in CANARIES if canary in text
    }
    assert leaks == set()


async def _submit_what_fails(up: Up) -> str:
    """A task whose goal, context, label and error text carry the canaries; it fails."""
    body = {
        "goal": f"use {TEXT}",
        "required_capabilities": ["shell"],
        "context": {"command": f"echo '{TEXT}' >&2; exit 3", "note": TEXT},
        "labels": {"who": CANARIES[1]},
        "budget": {"max_retries": 0},
    }
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    async with httpx.AsyncClient(base_url=up.gateway, timeout=30) as http:
        answer = await http.post("/v1/tasks", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        bad = await http.post("/v1/tasks", json=body | {"goal": "", "unknown": TEXT})
        assert bad.status_code == 422
        task_id = str(answer.json()["task_id"])

        async def ended() -> bool:
            task = (await http.get(f"/v1/tasks/{task_id}")).json()
            return task["terminal_at"] is not None

        await wait_until(ended, 60)
    return task_id


async def _bury(up: Up) -> None:
    """A submission on the bus that nobody can read becomes a dead letter."""
    bus = await nats.connect(up.nats)
    message = json.dumps({"submission": {"goal": 7, "context": TEXT}}).encode() + b"}"
    headers = {"Nats-Msg-Id": "canary", "authorization": f"Bearer {CANARIES[0]}"}
    subject = SUBMIT_TASK.at(tenant="default")
    await bus.jetstream().publish(subject, message, headers=headers)
    await asyncio.wait_for(bus.close(), 10)


async def _text(url: str) -> str:
    async with httpx.AsyncClient(timeout=30) as http:
        return (await http.get(url, headers={"accept": OPEN_METRICS})).text


def _files(up: Up) -> list[Path]:
    """What the stack's processes wrote, and the stack itself, outside the servers' data."""
    written = (*(up.data / "logs").glob("*.log"), *(up.data / "traces").glob("*.jsonl"))
    return [*written, *up.data.glob("up.*")]


def _spans(up: Up, trace_id: str) -> set[str]:
    return {span["name"] for span in up.spans() if span["trace_id"] == trace_id}


def _shown(up: Up, *words: str) -> str:
    ran = up.octarm(*words)
    return ran.stdout + ran.stderr
