"""Arm: a worker that offers capabilities to the fleet."""

import asyncio
import os
import uuid
from collections.abc import Iterable, Mapping
from typing import NoReturn, TypeVar

from pydantic import JsonValue, ValidationError

from octarm.common.service import run
from octarm.common.telemetry import get_logger
from octarm.models.arms import ArmCapability
from octarm.models.errors import InvalidRequest, field_errors
from octarm.sdk.handlers import Handler, Runnable, runnable
from octarm.sdk.instance import Surroundings, serve, serve_all
from octarm.sdk.settings import ArmSettings, ClientSettings, find_nats

H = TypeVar("H", bound=Handler)

log = get_logger()


class Arm:
    """What an arm is and can do, and the handler that does it.

    Every process that serves the same `arm_id` is one instance of it; each runs up to `slots`
    attempts at a time. `timeout_seconds` is what an attempt of this arm usually needs at most;
    what ends an attempt is the task's own `timeout_seconds`. `key` proves that the arm is
    yours: the registry refuses another one for the same `arm_id`.

    Raises:
        InvalidRequest: a value breaks the contract of `ArmCapability`; the fields are named.
    """

    def __init__(
        self,
        arm_id: str,
        *,
        capabilities: Iterable[str],
        slots: int = 10,
        name: str = "",
        description: str = "",
        version: str = "0.1.0",
        cost_tier: int = 1,
        input_schema: Mapping[str, JsonValue] | None = None,
        output_schema: Mapping[str, JsonValue] | None = None,
        timeout_seconds: int = 30,
        labels: Mapping[str, str] | None = None,
        takes_any: bool = True,
        key: str | None = None,
    ) -> None:
        try:
            self.capability = ArmCapability(
                arm_id=arm_id,
                name=name or arm_id,
                description=description,
                version=version,
                capabilities=frozenset(capabilities),
                input_schema=dict(input_schema or {}),
                output_schema=dict(output_schema or {}),
                cost_tier=cost_tier,
                slots=slots,
                timeout_seconds=timeout_seconds,
                labels=dict(labels or {}),
                takes_any=takes_any,
            )
        except ValidationError as error:
            named = field_errors(error.errors(include_input=False, include_url=False))
            what = "; ".join(f"{field.field}: {field.message}" for field in named)
            raise InvalidRequest(f"not a valid arm: {what}", errors=named) from error
        self._key = key
        self._handler: Runnable | None = None

    @property
    def arm_id(self) -> str:
        """The name under which the fleet knows it."""
        return self.capability.arm_id

    def run(self, handler: H) -> H:
        """Make the decorated function the arm's handler, and give it back unchanged.

        It takes `(task, ctx)` or only `(task)`. An async handler runs on the event loop, a
        sync one in a thread. What it returns (anything that is JSON) is the output of a
        success; an `ExecutionResult` is taken as it is; an exception makes a failure.

        Raises:
            TypeError: it takes other arguments, or is a generator.
        """
        self._handler = runnable(handler)
        return handler

    def main(self) -> NoReturn:
        """Serve until SIGTERM, then drain and exit; reads its settings from `OCTARM_*`."""
        self._ready()
        run(self._main, ArmSettings, self.arm_id)

    async def serve(
        self,
        *,
        nats_url: str,
        stop: asyncio.Event,
        instance: str = "",
        heartbeat_s: float = 5.0,
        drain_s: float = 30.0,
    ) -> None:
        """Serve on the running event loop until `stop` is set, then drain and return.

        Raises:
            Unavailable: NATS does not answer, or the connection was lost for good.
            OctarmError: the registry refuses the arm.
        """
        around = Surroundings(
            nats_url=nats_url,
            instance_id=instance or _an_instance(),
            heartbeat_s=heartbeat_s,
            drain_s=drain_s,
            key=self._key or "",
        )
        await serve(self.capability, self._ready(), around, stop)

    async def _main(self, settings: ArmSettings, stop: asyncio.Event) -> None:
        around = Surroundings(
            nats_url=find_nats(ClientSettings(nats_url=settings.nats_url)),
            nats_cluster=settings.nats_cluster,
            instance_id=settings.instance,
            heartbeat_s=settings.heartbeat_s,
            drain_s=settings.drain_s,
            key=self._key or settings.arm_key.get_secret_value(),
            http_host=settings.http_host,
            http_port=settings.http_port,
        )
        if not await serve(self.capability, self._ready(), around, stop):
            # A coroutine that swallows its cancellation would keep the event loop for ever.
            log.warning("left_with_handlers_running")
            os._exit(0)

    def _ready(self) -> Runnable:
        if self._handler is None:
            raise TypeError(f"arm {self.arm_id!r} has no handler: decorate one with @arm.run")
        return self._handler


async def serve_together(
    *arms: Arm,
    nats_url: str,
    stop: asyncio.Event,
    heartbeat_s: float = 5.0,
    drain_s: float = 30.0,
) -> None:
    """Serve several arms of this process over one connection until `stop` is set, then drain.

    That costs less than a connection for each: what they send travels together, and an arm that
    waits hardly costs anything. The user of `nats_url` must be allowed to be all of them. When
    one of them fails, `stop` is set and the others drain.

    Raises:
        Unavailable: NATS does not answer, or the connection was lost for good.
        OctarmError: the registry refuses an arm.
    """
    served = [
        (
            arm.capability,
            arm._ready(),
            Surroundings(nats_url, _an_instance(), heartbeat_s, drain_s, arm._key or ""),
        )
        for arm in arms
    ]
    await serve_all(served, stop)


def _an_instance() -> str:
    return f"i-{uuid.uuid4().hex[:12]}"
