"""Liveness, readiness, metrics, and the API's own description."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from octarm.common.health import Check, missing
from octarm.common.telemetry import metrics
from octarm.gateway.documents import Health
from octarm.models.errors import Unavailable


def health_routes(
    live: Callable[[], bool], ready: Mapping[str, Check], openapi: Callable[[], dict[str, Any]]
) -> APIRouter:
    """The routes for probes; they need no credential."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> Health:
        """Tell whether the process makes progress."""
        if not live():
            raise Unavailable("the connection to NATS is closed for good", "Restart the gateway.")
        return Health(status="ok")

    @router.get("/readyz")
    async def readyz() -> Health:
        """Tell whether a task would be accepted now; a refusal names what is missing."""
        failed = await missing(ready)
        if failed:
            named = "; ".join(f"{name}: {why}" for name, why in failed.items())
            raise Unavailable(named, "The named part must answer first.", retry_after_s=1)
        return Health(status="ready")

    @router.get("/metrics", include_in_schema=False)
    async def prometheus(request: Request) -> Response:
        body, content_type = metrics.negotiated(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    @router.get("/openapi.json", include_in_schema=False)
    async def document() -> dict[str, Any]:
        return openapi()

    return router
