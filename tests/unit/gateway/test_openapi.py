"""The description of the API is complete and says what the API does."""

from typing import Any

import pytest

from octarm.gateway.app import openapi

DOCUMENT = openapi()
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}

# All that they do is in their path.
WITHOUT_BODY = {
    "POST /v1/memory/episodes/{episode_id}/close",
    "POST /v1/memory/reembedding",
} | {
    f"POST /v1/policies/{what}"
    for what in ("rollback", "end-shadow", "{ref}/deploy", "{ref}/shadow")
}


def references(node: Any) -> set[str]:
    """Every `$ref` below a node."""
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(child) for child in node.values()))
    if isinstance(node, list):
        return set().union(*(references(child) for child in node))
    return set()


class TestDocument:
    def test_is_openapi_3_1_and_the_same_every_time(self) -> None:
        assert DOCUMENT["openapi"].startswith("3.1")
        assert openapi() == DOCUMENT

    def test_has_every_route_of_the_contract(self) -> None:
        assert set(OPERATIONS) == {
            "POST /v1/tasks",
            "GET /v1/tasks",
            "POST /v1/tasks/batch",
            "GET /v1/tasks/{task_id}",
            "DELETE /v1/tasks/{task_id}",
            "POST /v1/tasks/{task_id}/cancel",
            "GET /v1/tasks/{task_id}/result",
            "GET /v1/tasks/{task_id}/events",
            "GET /v1/tasks/{task_id}/explain",
            "GET /v1/arms",
            "GET /v1/arms/{arm_id}",
            "POST /v1/arms/{arm_id}/drain",
            "GET /v1/queue",
            "GET /v1/shedding",
            "PUT /v1/shedding",
            "GET /v1/memory/episodes",
            "GET /v1/memory/episodes/{episode_id}",
            "GET /v1/memory/stats",
            "POST /v1/memory/erasures",
            "GET /v1/memory/erasures/{erasure_id}",
            "GET /v1/memory/semantic",
            "GET /v1/memory/reembedding",
            "POST /v1/memory/reembedding",
            "POST /v1/memory/episodes",
            "POST /v1/memory/episodes/{episode_id}/entries",
            "POST /v1/memory/episodes/{episode_id}/close",
            "POST /v1/memory/episodes/{episode_id}/extend",
            "DELETE /v1/memory/episodes/{episode_id}",
            "POST /v1/memory/remember",
            "POST /v1/memory/search",
            "GET /v1/memory/semantic/{memory_id}",
            "DELETE /v1/memory/semantic/{memory_id}",
            "GET /v1/dlq",
            "GET /v1/dlq/{seq}",
            "POST /v1/dlq/redrive",
            "POST /v1/dlq/drop",
            "GET /v1/policies",
            "POST /v1/policies",
            "POST /v1/policies/validate",
            "POST /v1/policies/simulate",
            "POST /v1/policies/rollback",
            "POST /v1/policies/end-shadow",
            "GET /v1/policies/shadow/differences",
            "GET /v1/policies/{ref}",
            "DELETE /v1/policies/{ref}",
            "POST /v1/policies/{ref}/deploy",
            "POST /v1/policies/{ref}/shadow",
            "GET /v1/scaling/{arm_id}",
            "GET /healthz",
            "GET /readyz",
        }

    def test_every_reference_leads_somewhere(self) -> None:
        for reference in references(DOCUMENT):
            node: Any = DOCUMENT
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_every_operation_says_what_it_gives_and_how_it_refuses(self, name: str) -> None:
        operation = OPERATIONS[name]
        assert operation["summary"]
        assert operation["description"]
        good = [code for code in operation["responses"] if code.startswith("2")]
        assert good
        assert all(operation["responses"][code].get("description") for code in good)
        if " /v1/" in name:
            assert {"401", "422", "503"} <= set(operation["responses"])
            assert {"bearer": []} in operation["security"]
        if name.startswith("POST") and name not in WITHOUT_BODY:
            content = operation["requestBody"]["content"]["application/json"]
            assert content["schema"]
            assert content["example"]

    def test_a_refusal_is_shown_as_a_problem(self) -> None:
        for response in DOCUMENT["components"]["responses"].values():
            (kind,) = response["content"]
            assert kind == "application/problem+json"
            assert response["content"][kind]["example"]["recovery_hint"]
