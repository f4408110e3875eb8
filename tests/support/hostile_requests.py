"""A request for each hostile text in each place of the HTTP API's document, and of the bus's."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from octarm.models.subjects import QUERIES, Query
from tests.support.hostile import TEXTS, Schema, places

GOAL: Final = {"goal": "Summarise", "required_capabilities": ["nobody-has-it"]}
POLICY: Final = "def schedule(ctx):\n    return platform_schedule(ctx)\n"
METHODS: Final = ("get", "put", "post", "delete", "patch")
# HTTP itself takes no longer ones.
IN_A_LINE: Final = 4000
ON_THE_BUS: Final = ("NUL", "half of a surrogate pair", "very long")
NOT_IN_HEADERS: Final = {"NUL", "control characters"}


@dataclass(frozen=True)
class Hostile:
    """A request to an operation of the document, and what is hostile about it."""

    name: str
    method: str
    path: str
    operation: Schema
    body: bytes | None = None
    headers: Mapping[bytes, bytes] = field(default_factory=dict)


async def things(http: httpx.AsyncClient) -> dict[str, Any]:
    """Make one of each thing that requests are about; give their ids by the names of fields."""

    async def made(path: str, body: Any) -> Any:
        answer = await http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    task = await made("/v1/tasks", GOAL)
    episode = await made("/v1/memory/episodes", {"task_id": task["task_id"]})
    kept = await made("/v1/memory/remember", {"memories": [{"content": "The port is 8080."}]})
    erasure = await made("/v1/memory/erasures", {"tag": "person:ann"})
    await made("/v1/policies", {"name": "mine", "source": POLICY})
    return {
        "task_id": task["task_id"],
        "episode_id": episode["episode_id"],
        "memory_id": kept["answers"][0]["memory_id"],
        "erasure_id": erasure["erasure_id"],
        "arm_id": "executor",
        "ref": "mine",
        "seq": "1",
    }


def over_http(document: Schema, known: Mapping[str, Any]) -> Iterator[Hostile]:
    """Give a request for each text in each place of each operation; `known` names things."""
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method in filter(METHODS.__contains__, methods):
            operation = methods[method]
            yield from _in_parameters(method, path, operation, known)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for where, build in places(content["schema"], schemas, known):
                    for name, text in TEXTS.items():
                        body = json.dumps(build(text)).encode()
                        named = f"{method} {path} {where}: {name}"
                        yield Hostile(named, method, path.format_map(known), operation, body)


def _in_parameters(
    method: str, path: str, operation: Schema, known: Mapping[str, Any]
) -> Iterator[Hostile]:
    for parameter in operation.get("parameters", ()):
        where, what = parameter["in"], parameter["name"]
        for name, text in TEXTS.items():
            named = f"{method} {path} {what}: {name}"
            raw = text[:IN_A_LINE].encode(errors="surrogatepass")
            if where == "path":
                at = path.format_map({**known, what: quote(raw, safe="")})
                yield Hostile(named, method, at, operation)
            elif where == "query":
                at = f"{path.format_map(known)}?{urlencode({what: raw})}"
                yield Hostile(named, method, at, operation)
            elif name not in NOT_IN_HEADERS:
                at = path.format_map(known)
                yield Hostile(named, method, at, operation, headers={what.encode(): raw})


def over_the_bus(known: Mapping[str, Any]) -> Iterator[tuple[str, Query[Any, Any], bytes]]:
    """Give a request for each text that HTTP may not have let pass in each place of each query."""
    for query in QUERIES:
        schema = query.asks.model_json_schema()
        for where, build in places(schema, schema.get("$defs", {}), known):
            for name in ON_THE_BUS:
                body = json.dumps(build(TEXTS[name])).encode()
                yield f"{query.template} {where}: {name}", query, body
