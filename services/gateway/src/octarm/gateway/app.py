"""The API as an ASGI application; making one connects to nothing."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, cast

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from octarm.common.health import Check
from octarm.gateway.domain.load import Load
from octarm.gateway.domain.tenants import Tenants
from octarm.gateway.routes import openapi as description
from octarm.gateway.routes.bodies import declared_size
from octarm.gateway.routes.dead_letters import dead_letter_routes
from octarm.gateway.routes.edge import Edge
from octarm.gateway.routes.episodes import memory_routes
from octarm.gateway.routes.events import event_routes
from octarm.gateway.routes.fleet import arm_routes, queue_routes
from octarm.gateway.routes.health import health_routes
from octarm.gateway.routes.knowledge import knowledge_routes
from octarm.gateway.routes.policies import policy_routes
from octarm.gateway.routes.problems import HANDLERS, answering, problem_response
from octarm.gateway.routes.scaling import scaling_routes
from octarm.gateway.routes.shedding import shedding_routes
from octarm.gateway.routes.submit import SUBMIT_PATH, submit_endpoint, submit_routes
from octarm.gateway.routes.tasks import task_routes
from octarm.gateway.routes.upkeep import upkeep_routes
from octarm.gateway.usecases.dead_letters import DeadLetterDesk
from octarm.gateway.usecases.follow import ExplainTask, FetchResult, WatchTask
from octarm.gateway.usecases.ports import Fleet
from octarm.gateway.usecases.submit import ANSWER_S, Submit


def _now() -> datetime:
    return datetime.now(UTC)


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the application is told about the process it runs in."""

    tenants: Tenants = field(default_factory=lambda: Tenants({}))
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    live: Callable[[], bool] = _always
    connected: Callable[[], bool] = _always
    ready: Mapping[str, Check] = field(default_factory=dict)
    now: Callable[[], datetime] = _now
    shards: int = 1
    ping_s: float = 15.0
    answer_s: float = ANSWER_S
    load: Load = field(default_factory=Load)
    operators: frozenset[str] = frozenset()
    """Tenants whose keys may see and redrive every tenant's dead letters, and change policies."""
    home: bool = False
    """Whether every tenant may change policies."""

    def is_operator(self, tenant: str) -> bool:
        """Whether a tenant's key may; without keys there is only one tenant, and it may."""
        return not self.tenants.keys_needed or tenant in self.operators


def make_app(fleet: Fleet, around: Surroundings) -> ASGIApp:
    """Wire the API in front of a fleet."""
    submit = Submit(fleet.tasks, around.now, answer_s=around.answer_s)
    submit_task = submit_endpoint(submit)
    whole = _routes(fleet, around, submit_routes(submit, submit_task))
    # Submitting a task goes past FastAPI, which would take as long as all the rest of it.
    short = answering(submit_task, SUBMIT_PATH)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await whole(scope, receive, send)
            return
        chosen = short if scope["path"] == SUBMIT_PATH else whole
        size = declared_size(scope)
        if (refusal := around.load.no_room(size)) is not None:
            await problem_response(scope, refusal)(scope, receive, send)
            return
        with around.load.request(size):
            await chosen(scope, receive, send)

    return Edge(app, around.tenants, around.connected)


def _routes(fleet: Fleet, around: Surroundings, submission: APIRouter) -> FastAPI:
    app = FastAPI(
        title=description.TITLE,
        version=description.VERSION,
        description=description.DESCRIPTION,
        exception_handlers=HANDLERS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    watch = WatchTask(fleet, around.closing, around.ping_s)
    fetch_result = FetchResult(fleet, around.closing)
    explain = ExplainTask(fleet, around.shards)
    keys_needed = around.tenants.keys_needed
    for router in (
        submission,
        task_routes(fleet.tasks, fetch_result, explain),
        event_routes(watch, around.load),
        arm_routes(fleet.arms),
        scaling_routes(fleet.arms, fleet.tasks, around.is_operator),
        shedding_routes(fleet.tasks, around.is_operator),
        queue_routes(fleet.queue, around.shards, keys_needed=keys_needed),
        memory_routes(fleet.episodes),
        upkeep_routes(fleet.upkeep),
        knowledge_routes(fleet.knowledge, around.is_operator),
        dead_letter_routes(DeadLetterDesk(fleet.letters), around.is_operator),
        policy_routes(
            fleet.policies, around.is_operator, everybody=around.home, shards=around.shards
        ),
        health_routes(around.live, around.ready, cache(partial(description.complete, app))),
    ):
        app.include_router(router)
    return app


def openapi() -> dict[str, Any]:
    """Give the OpenAPI document without connecting to anything."""
    nothing = cast(Fleet, _Unconnected())
    submit = Submit(nothing.tasks, _now)
    routes = submit_routes(submit, submit_endpoint(submit))
    return description.complete(_routes(nothing, Surroundings(), routes))


def openapi_text() -> str:
    """Give the OpenAPI document as it is committed."""
    return json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n"


class _Unconnected:
    tasks = queue = arms = episodes = knowledge = upkeep = events = letters = policies = None
