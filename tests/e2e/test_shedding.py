"""Operators shed load and open again, from the command line to the answer that clients get."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.conftest import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Nobody here can do it: it waits until it is called off.
TASK = {"goal": "wait", "required_capabilities": ["nobody-can"], "priority": 9}


@pytest.fixture
def http(up: Up) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=up.gateway, timeout=30) as client:
        yield client


def test_what_is_shed_is_refused_with_its_reason_until_it_is_opened(
    up: Up, http: httpx.Client
) -> None:
    try:
        put = up.octarm("shed", "set", "shed-batch", "--for", "5m", "--reason", "a rehearsal")
        refused = http.post("/v1/tasks", json=TASK)
        urgent = http.post("/v1/tasks", json={**TASK, "priority": 1})
        queue = up.octarm("queue", "--json")
        examined = up.octarm("doctor", "--cluster", "--json")
    finally:
        opened = up.octarm("shed", "set", "open")
    fine = http.post("/v1/tasks", json=TASK)
    history = up.octarm("shed", "show", "--json")

    assert put.stdout.startswith("shed-batch for all tenants, put by default"), put.stderr
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (429, "LOAD_SHED"), problem
    assert "a rehearsal" in problem["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 5 * 60 * 1.25 + 1
    assert [urgent.status_code, fine.status_code] == [202, 202]
    assert "a rehearsal" in json.loads(queue.stdout)["shedding"][0]
    checks = {check["name"]: check for check in json.loads(examined.stdout)}
    assert checks["load shedding"]["verdict"] == "warning"
    assert opened.stdout == "open: nothing is shed\n"
    found = json.loads(history.stdout)
    assert [it["mode"] for it in found["past"][:2]] == ["open", "shed-batch"]
    for accepted in (urgent, fine):
        http.post(f"/v1/tasks/{accepted.json()['task_id']}/cancel")
