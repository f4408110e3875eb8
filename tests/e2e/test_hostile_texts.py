"""Every place where somebody may write a text takes every text, or refuses it by name.

The fuzzers find by chance what these find each time: what is stored cannot be, such as NUL in
Postgres, or what is read cannot be written, such as half of a surrogate pair.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import nats
import pytest

from octarm.common.bus.requests import ask_raw
from octarm.models.errors import OctarmError, Problem
from tests.e2e.conftest import Up
from tests.support.hostile_requests import POLICY, Hostile, over_http, over_the_bus, things

pytestmark = [pytest.mark.e2e, pytest.mark.bad_input(6, 20), pytest.mark.timeout(900)]
INTERNAL = '"code":"INTERNAL"'
BUSY = (503, 504)
ATTEMPTS = 20
PATIENCE_S = 60.0


async def test_no_text_is_too_much_for_a_service(up_alone: Up) -> None:
    async with httpx.AsyncClient(base_url=up_alone.gateway, timeout=PATIENCE_S) as http:
        known = await things(http) | {"source": POLICY}
        document = (await http.get("/openapi.json")).json()
        found = [
            f"{request.name}: {wrong}"
            for request in over_http(document, known)
            if (wrong := await sent(http, request, again=ATTEMPTS))
        ]
    found += await asked(up_alone.nats, known | {"tenant": "default", "by": "ann"})

    assert found == []
    assert list(bugs(up_alone)) == []


async def sent(http: httpx.AsyncClient, request: Hostile, *, again: int) -> str:
    """Say what is wrong with the answer to a request; a busy machine is asked `again`."""
    headers = {b"content-type": b"application/json", **request.headers}
    asked = http.stream(request.method, request.path, content=request.body, headers=headers)
    async with asked as answer:
        kind = answer.headers.get("content-type", "")
        if answer.is_success and kind.startswith("text/event-stream"):
            return ""
        text = (await answer.aread()).decode()
    if answer.status_code in BUSY and again:
        return await sent(http, request, again=again - 1)
    if str(answer.status_code) not in request.operation["responses"]:
        return f"{answer.status_code} is not in the document"
    if answer.is_error:
        assert kind == "application/problem+json", request.name
        Problem.model_validate_json(text)
    return text if answer.is_server_error or INTERNAL in text else ""


async def asked(nats_url: str, known: dict[str, Any]) -> list[str]:
    """Send each query with each text; give the answers that are none."""
    found = []
    bus = await nats.connect(nats_url)
    try:
        for name, query, body in over_the_bus(known):
            at = {"shard": 0} if "{shard}" in query.template else {}
            try:
                answer = await ask_raw(bus, query.at(**at), body, timeout_s=PATIENCE_S)
            except OctarmError as error:
                found.append(f"{name}: {error}")
            else:
                found += [f"{name}: {answer!r}"] if INTERNAL.encode() in answer else []
    finally:
        await bus.close()
    return found


def bugs(up: Up) -> Iterator[str]:
    """What services wrote of exceptions that nobody had a name for."""
    for log in sorted((up.data / "logs").glob("*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("{") and "exception" in json.loads(line):
                yield f"{log.name}: {line[-2000:]}"
