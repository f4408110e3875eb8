"""Requests and replies, and the control plane's subscriptions, on FastStream.

Every reply is the envelope `{"ok": …}` or `{"problem": …}`, so an error travels as what it is.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from faststream.nats import NatsBroker, NatsMessage, NatsRouter
from faststream.security import BaseSecurity
from nats.aio.client import Client as NATS
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from pydantic import BaseModel, ValidationError

from octarm.common.bus.connection import close, connect_options, leaving_the_lonely, servers
from octarm.common.bus.headers import safe_headers
from octarm.common.bus.replies import Replies
from octarm.common.bus.wire import take_no_more
from octarm.common.telemetry.logs import get_logger
from octarm.models.errors import (
    InvalidRequest,
    OctarmError,
    Problem,
    TimedOut,
    Unavailable,
    field_errors,
    from_problem,
)
from octarm.models.subjects import Query, Subject

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)
_MAYBE_DONE: Final = (
    "It may have been carried out. Send it again with the same id or key, or look first; if it"
    " persists, the service has too much to do."
)
NO_PARAMETERS: Final[Mapping[str, str | int]] = {}

log = get_logger()


async def ask(
    nc: NATS,
    query: Query[M, R],
    message: M,
    *,
    timeout_s: float = 5.0,
    at: Mapping[str, str | int] = NO_PARAMETERS,
    headers: Mapping[str, str] | None = None,
) -> R:
    """Send a request and await its answer.

    Raises:
        Unavailable: nobody answers this query now.
        TimedOut: no answer in `timeout_s` seconds; it may have been carried out.
        OctarmError: what the answerer replied.
    """
    body = message.model_dump_json().encode()
    data = await ask_raw(nc, query.at(**at), body, timeout_s=timeout_s, headers=headers)
    return read_reply(data, query.answers)


async def ask_raw(
    nc: NATS,
    subject: str,
    body: bytes,
    *,
    timeout_s: float = 5.0,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Send bytes and await the reply's bytes; raises as `ask` does for the transport."""
    try:
        if not headers and isinstance(nc, NATS):
            return await Replies.of(nc).ask(subject, body, timeout_s)
        safe = safe_headers(headers) or None
        reply = await nc.request(subject, body, timeout=timeout_s, headers=safe)
    except NoRespondersError as error:
        raise Unavailable(f"nobody answers {subject} now", retry_after_s=1) from error
    except TimeoutError as error:
        late = f"no answer to {subject} in {timeout_s:g} s"
        raise TimedOut(late, _MAYBE_DONE, retry_after_s=1) from error
    except (NatsError, OSError) as error:
        raise Unavailable(f"NATS: {error}", retry_after_s=1) from error
    return reply.data


def read_reply(data: bytes, answers: type[R]) -> R:
    """Open the reply envelope.

    Raises:
        OctarmError: the problem in it.
    """
    if data.startswith(b'{"problem":{'):
        raise from_problem(Problem.model_validate_json(data[len(b'{"problem":') : -1]))
    return answers.model_validate_json(data[len(b'{"ok":') : -1])


def ok(answer: bytes) -> bytes:
    """Wrap an answer, already JSON, in the reply envelope."""
    return b'{"ok":' + answer + b"}"


def problem(error: OctarmError, *, correlation_id: str = "") -> bytes:
    """Wrap an error in the reply envelope."""
    text = error.problem(correlation_id=correlation_id).model_dump_json()
    return b'{"problem":' + text.encode() + b"}"


async def reply_of(handle: Callable[[bytes], Awaitable[bytes]], body: bytes, query: str) -> bytes:
    """Give the reply to a request, whatever `handle`, which gives the answer as JSON, comes to."""
    try:
        return ok(await handle(body))
    except ValidationError as error:
        return problem(InvalidRequest("not a valid request", errors=field_errors(error.errors())))
    except OctarmError as error:
        return problem(error)
    except Exception:
        log.exception("query_failed", query=query)
        return problem(OctarmError("the service failed to answer"))


async def _undecoded(message: NatsMessage) -> bytes:
    return message.body


def answer(
    router: NatsRouter,
    query: Query[M, R],
    *,
    queue: str,
    at: Mapping[str, str | int] = NO_PARAMETERS,
) -> Callable[[Callable[[M], Awaitable[R]]], None]:
    """Answer `query` with the decorated handler; replicas share a `queue` group.

    A handler whose types are not the query's does not type-check. An `OctarmError` becomes
    the reply; anything else is a bug, logged and answered as INTERNAL.
    """
    subscriber = router.subscriber(
        query.at(**at), queue=queue, decoder=_undecoded, title=query.template
    )

    def register(handler: Callable[[M], Awaitable[R]]) -> None:
        async def handle(body: bytes) -> bytes:
            found = await handler(query.asks.model_validate_json(body))
            return found.model_dump_json().encode()

        async def reply(body: bytes) -> bytes:
            return await reply_of(handle, body, query.template)

        subscriber(reply)

    return register


def on(
    router: NatsRouter, subject: Subject[M], *, queue: str = "", **fixed: str
) -> Callable[[Callable[[M], Awaitable[None]]], None]:
    """Call the decorated handler for each message on `subject` (core NATS, at most once).

    `fixed` gives values to some of the subject's parameters; the others match anything. A
    message that does not parse is logged and dropped: on core NATS nobody can resend it.
    """
    pattern = subject.template.format_map(_Star(fixed))
    # Without no_reply FastStream answers every message that names a reply subject; for one
    # published to a stream that is where the publisher awaits the stream's acknowledgement.
    subscriber = router.subscriber(
        pattern, queue=queue, decoder=_undecoded, title=pattern, no_reply=True
    )

    def register(handler: Callable[[M], Awaitable[None]]) -> None:
        async def receive(body: bytes) -> None:
            try:
                message = subject.message.model_validate_json(body)
            except ValidationError:
                log.warning("message_not_understood", subject=pattern)
                return
            await handler(message)

        subscriber(receive)

    return register


class _Star(dict[str, str]):
    def __missing__(self, _: str) -> str:
        return "*"


@asynccontextmanager
async def control_plane(
    url: str, router: NatsRouter, *, name: str, **options: Any
) -> AsyncGenerator[NatsBroker, None]:
    """Run a router's subscriptions on a connection of their own until the block ends."""
    options = {**connect_options(f"{name}-control", url), **options}
    if (context := options.pop("tls", None)) is not None:
        options["security"] = BaseSecurity(ssl_context=context)
    broker = NatsBroker(servers(url), logger=None, **options)
    broker.include_router(router)
    await broker.start()
    try:
        leaving_the_lonely(broker.connection)
        # Askers are on other connections: the server must know the subscriptions first. The
        # client writes its first ping past subscriptions that it has yet to write.
        await broker.connection.flush()
        await broker.connection.flush()
        yield broker
    finally:
        connection = broker.connection
        try:
            await _answer_the_last(broker)
            await broker.stop()
        except NatsError:
            # It cannot drain while its server is away, and must not come back afterwards.
            await close(connection)


async def _answer_the_last(broker: NatsBroker) -> None:
    """Be sent no more queries, and answer those that were sent.

    FastStream drops what waits: who asked would hear nothing, though another replica is there.
    """
    leaving = []
    for subscriber in broker.subscribers:
        subscription = vars(subscriber).get("subscription")
        if isinstance(subscription, Subscription):
            vars(subscriber)["subscription"] = None
            leaving.append(take_no_more(broker.connection, subscription))
    await asyncio.gather(*leaving)
