"""What the OpenAPI document says beyond the types of the routes."""

from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from octarm.gateway.documents import (
    ArmOwner,
    BatchAnswers,
    BatchSubmission,
    Cancellation,
    LetterSelection,
    Receipt,
    SwitchToPut,
)
from octarm.gateway.episode_documents import EntriesToWrite, EpisodeToOpen, TtlToExtend
from octarm.gateway.memory_documents import MemoriesToKeep, MemorySearch, SubjectToErase
from octarm.gateway.policy_documents import PolicySource, PolicyToSave, Simulation
from octarm.models.errors import Problem

TITLE: Final = "Octarm"
VERSION: Final = "1"
DESCRIPTION: Final = (
    "Hand in tasks, follow them, fetch their results. Every refusal is "
    "`application/problem+json` (RFC 9457) with a code, a recovery hint and the correlation id."
)
SCHEMAS: Final = "#/components/schemas/"
Json = dict[str, Any]

_EXTRA_MODELS: Final[tuple[type[BaseModel], ...]] = (
    ArmOwner,
    BatchAnswers,
    BatchSubmission,
    Cancellation,
    LetterSelection,
    MemoriesToKeep,
    MemorySearch,
    SubjectToErase,
    PolicySource,
    PolicyToSave,
    Problem,
    Receipt,
    Simulation,
    SwitchToPut,
    EntriesToWrite,
    EpisodeToOpen,
    TtlToExtend,
)
_TASK_ID: Final = "tsk_01kasx6z2nf8qtk5m1t3fn7x9c"
_RECEIPT: Final[Json] = {
    "task_id": _TASK_ID,
    "status": "queued",
    "state": "queued",
    "events_url": f"/v1/tasks/{_TASK_ID}/events",
}
_PROBLEM: Final[Json] = {
    "type": "about:blank",
    "title": "Invalid request",
    "status": 422,
    "detail": "not accepted: priority",
    "instance": "/v1/tasks",
    "code": "INVALID_REQUEST",
    "category": "validation",
    "retryable": False,
    "recovery_hint": "Correct the named fields and send it again.",
    "correlation_id": "b7c0b2f0a2a54c7e9c7a1f4f7a4d2c11",
    "errors": [{"field": "priority", "message": "Input should be less than or equal to 10"}],
}
_REFUSALS: Final = {
    "400": "The body is not JSON as we accept it, or the cursor is not one that we gave",
    "401": "No credential, or one that is not accepted",
    "402": "What is left of the parent's budget does not cover it",
    "403": "The credential does not permit this",
    "404": "No such thing for this tenant",
    "408": "The body did not arrive in time",
    "409": "The idempotency key belongs to another task",
    "413": "The body is too large",
    "422": "The request breaks its contract; `errors` names the fields",
    "429": "More than can be taken now; wait for Retry-After seconds",
    "500": "A bug of ours",
    "503": "A part that is needed does not answer now; wait for Retry-After seconds",
    "504": "A part that is needed took too long to answer",
}
_WRITES: Final = frozenset({"400", "408", "413"})


def _body(model: str, example: Json, *, required: bool) -> Json:
    content = {"schema": {"$ref": SCHEMAS + model}, "example": example}
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


def _answer(description: str, model: str, example: Json, **headers: str) -> Json:
    content = {"schema": {"$ref": SCHEMAS + model}, "example": example}
    return {
        "description": description,
        "headers": {
            name.replace("_", "-"): {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        },
        "content": {"application/json": content},
    }


def _header(name: str, description: str, pattern: str) -> Json:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "description": description, "schema": schema}


_KEY: Final = _header(
    "Idempotency-Key",
    "The same key and task give the same task; wins over `idempotency_key` in the body",
    r"^[\x20-\x7e]{1,128}$",
)
_TASK: Final[Json] = {"goal": "Summarise the report", "required_capabilities": ["summarise"]}
SUBMIT_ONE: Final[Json] = {
    **_body("TaskSubmission", _TASK, required=True),
    "parameters": [_KEY],
    "responses": {
        "202": _answer("Accepted", "Receipt", _RECEIPT, Location="URL of the task"),
        "200": _answer(
            "The key was known: the same task", "Receipt", _RECEIPT, Location="URL of the task"
        ),
        "402": {},
        "409": {},
    },
}
SUBMIT_BATCH: Final[Json] = {
    **_body("BatchSubmission", {"tasks": [_TASK]}, required=True),
    "responses": {
        "200": _answer(
            "One answer for each task, in order",
            "BatchAnswers",
            {"answers": [{"status": 202, "task": _RECEIPT}]},
        )
    },
}
CANCEL: Final[Json] = _body("Cancellation", {"reason": "No longer needed"}, required=False)
DRAIN: Final[Json] = _body("ArmOwner", {"key": ""}, required=False)
SHED: Final[Json] = _body("SwitchToPut", {"mode": "shed-batch", "seconds": 900}, required=True)
LETTERS: Final[Json] = _body("LetterSelection", {"origin": "memory-remember-task"}, required=True)
_SOURCE: Final = "def schedule(ctx):\n    return platform_schedule(ctx)\n"
POLICY_SOURCE: Final[Json] = _body("PolicySource", {"source": _SOURCE}, required=True)
POLICY: Final[Json] = _body("PolicyToSave", {"name": "mine", "source": _SOURCE}, required=True)
SIMULATION: Final[Json] = _body(
    "Simulation", {"refs": ["live", "mine"], "since": "2026-11-21T11:00:00Z"}, required=True
)
REMEMBER: Final[Json] = _body(
    "MemoriesToKeep",
    {"memories": [{"content": "The gateway listens on port 8080."}]},
    required=True,
)
SEARCH: Final[Json] = _body("MemorySearch", {"query": "port of the gateway", "k": 5}, required=True)
OPEN_EPISODE: Final[Json] = _body("EpisodeToOpen", {"task_id": _TASK_ID}, required=True)
WRITE_ENTRIES: Final[Json] = _body(
    "EntriesToWrite",
    {"entries": [{"kind": "observation", "body": {"saw": "README.md"}}]},
    required=True,
)
EXTEND_EPISODE: Final[Json] = _body("TtlToExtend", {"ttl_seconds": 7200}, required=True)
OPENED: Final[dict[int | str, Json]] = {
    201: {
        "description": "A new episode",
        "content": {"application/json": {"schema": {"$ref": SCHEMAS + "EpisodeOpened"}}},
    },
    404: {},
    409: {},
}
ERASE: Final[Json] = _body("SubjectToErase", {"tag": "person:ann"}, required=True)
OPERATORS_ONLY: Final[dict[int | str, Json]] = {403: {}}
SIMULATED: Final[dict[int | str, Json]] = {403: {}, 404: {}}
CHANGED: Final[dict[int | str, Json]] = {403: {}, 409: {}}
SAVED: Final[dict[int | str, Json]] = {
    201: {
        "description": "A new version",
        "content": {"application/json": {"schema": {"$ref": SCHEMAS + "PolicySaved"}}},
    },
    **CHANGED,
}
NOT_ENDED: Final[dict[int | str, Json]] = {
    202: {
        "description": "The task has not ended",
        "content": {"application/json": {"schema": {"$ref": SCHEMAS + "Outcome"}}},
        "headers": {
            "Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
        },
    }
}
EVENT_STREAM: Final[dict[int | str, Json]] = {
    200: {
        "description": "Server-sent events: `task.…` with an id, `chunk` without one",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: 17\nevent: task.accepted\ndata: {"type":"task.accepted"}\n\n',
            }
        },
    },
    204: {"description": "The task has ended and everything has been told"},
}


def complete(app: FastAPI) -> Json:
    """Give the whole document: what FastAPI finds, with bodies, refusals and credentials."""
    document = app.openapi()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    _, extra = models_json_schema(
        [(model, "validation") for model in _EXTRA_MODELS], ref_template=SCHEMAS + "{model}"
    )
    for name, schema in extra["$defs"].items():
        schemas.setdefault(name, schema)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["components"]["responses"] = {
        f"Problem{status}": _refusal(text) for status, text in _REFUSALS.items()
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            _add_refusals(path, operation)
    return document


def _refusal(description: str) -> Json:
    content = {"schema": {"$ref": SCHEMAS + "Problem"}, "example": _PROBLEM}
    return {"description": description, "content": {"application/problem+json": content}}


def _pages(operation: Json) -> bool:
    """Whether it takes a cursor, which may be none of ours."""
    return any(parameter["name"] == "cursor" for parameter in operation.get("parameters", ()))


def _add_refusals(path: str, operation: Json) -> None:
    responses = operation["responses"]
    guarded = path.startswith("/v1/")
    named = set(responses)
    rare = {"402", "403", "409"} - named
    responses.pop("422", None)
    for status in _REFUSALS if guarded else ():
        if status == "400" and _pages(operation):
            pass
        elif status in _WRITES and "requestBody" not in operation:
            continue
        if status in rare:
            continue
        # What is submitted may name relatives that do not exist.
        if status == "404" and "{" not in path and "409" in rare and status not in named:
            continue
        responses[status] = {"$ref": f"#/components/responses/Problem{status}"}
    if guarded:
        operation["security"] = [{"bearer": []}, {"apiKey": []}, {}]
        operation.setdefault("parameters", []).append(
            _header("X-Correlation-Id", "Echoed; made when absent", "^[A-Za-z0-9-]{1,64}$")
        )
