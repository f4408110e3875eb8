"""One way to connect to NATS, with the settings that survive a restart of the server."""

import random
import re
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import nats
from nats.aio.client import Client as NATS
from nats.errors import Error as NatsError
from nats.errors import NoServersError, SlowConsumerError

from octarm.common.bus.wire import with_fast_headers
from octarm.common.telemetry import metrics
from octarm.common.telemetry.logs import get_logger
from octarm.models.errors import Unavailable
from octarm.models.ids import is_token

MIN_SERVER: Final = (2, 12)
PENDING_BYTES: Final = 32 * 1024 * 1024
ANSWER_S: Final = 2
AWAY_SAID_EVERY_S: Final = 5.0

log = get_logger()


def connect_options(name: str, url: str = "") -> dict[str, Any]:
    """Give the client options that every connection of ours has.

    With `tls://…?ca=FILE` only servers are trusted whose certificate that authority has signed.

    Raises:
        Unavailable: the file cannot be read.
    """
    options: dict[str, Any] = {
        "name": name,
        "connect_timeout": 2,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        # A server that was cut off is left after six seconds at most.
        "ping_interval": 2,
        "max_outstanding_pings": 2,
        # Shuffled, the next server tried might be the one that was left just now.
        "dont_randomize": True,
        "pending_size": PENDING_BYTES,
        "inbox_prefix": inbox_of(url),
    }
    if ca := parse_qs(url.partition("?")[2]).get("ca"):
        try:
            options["tls"] = ssl.create_default_context(cafile=ca[0])
        except OSError as error:
            raise Unavailable(
                f"the certificate authority {ca[0]} cannot be read: {error}",
                "Check the file that ?ca= of OCTARM_NATS_URL names.",
            ) from error
    return options


def inbox_of(url: str) -> str:
    """Begin the subjects of a user's answers: a server may let each user hear its own only."""
    user = urlsplit(url.partition(",")[0]).username or ""
    return f"_INBOX.{user}" if is_token(user) else "_INBOX"


async def connect(
    url: str,
    *,
    name: str,
    expect_cluster: str | None = None,
    on_closed: Callable[[], None] | None = None,
) -> NATS:
    """Connect and check what answered.

    Reconnects for ever once connected. A permission violation closes the connection, and
    `on_closed` is called when it will not come back: let the process end then.

    Raises:
        Unavailable: nobody answers, the server is older than 2.12 or of another cluster.
    """
    connection = leaving_the_lonely(with_fast_headers(NATS()))

    quiet_until = 0.0

    async def failed(error: Exception) -> None:
        nonlocal quiet_until
        if isinstance(error, OSError):
            # Each server is tried four times a second.
            if time.monotonic() < quiet_until:
                return
            quiet_until = time.monotonic() + AWAY_SAID_EVERY_S
        log.warning("nats_error", error=str(error) or type(error).__name__)
        if isinstance(error, SlowConsumerError):
            metrics.inc("octarm_bus_slow_reader_total")
        if "permissions violation" in str(error).lower():
            await connection.close()

    async def closed() -> None:
        if on_closed is not None:
            on_closed()

    async def reconnected() -> None:
        log.info("nats_reconnected")

    first_try = {**connect_options(name, url), "allow_reconnect": True}
    try:
        await _first_connect(
            connection,
            url,
            first_try | {"error_cb": failed, "closed_cb": closed, "reconnected_cb": reconnected},
        )
    except (NoServersError, OSError, NatsError, TimeoutError) as error:
        raise Unavailable(
            f"NATS does not answer at {_without_secret(url)}: {error}",
            "Check OCTARM_NATS_URL and that nats-server runs; `octarm doctor` tells.",
        ) from error
    try:
        _check(connection, expect_cluster)
    except Unavailable:
        await connection.close()
        raise
    return connection


@asynccontextmanager
async def connected_to(
    url: str,
    *,
    name: str,
    expect_cluster: str | None = None,
    on_closed: Callable[[], None] | None = None,
) -> AsyncGenerator[NATS, None]:
    """`connect`, and close the connection at the end of the block."""
    connection = await connect(url, name=name, expect_cluster=expect_cluster, on_closed=on_closed)
    try:
        yield connection
    finally:
        await close(connection)


async def must_be_connected(connection: NATS) -> None:
    """Raise Unavailable unless there is a connection; asks nobody, for busy processes."""
    if not connection.is_connected:
        raise Unavailable("not connected")


async def must_answer(connection: NATS) -> None:
    """Raise Unavailable unless the server answers in two seconds."""
    await must_be_connected(connection)
    try:
        await connection.flush(timeout=ANSWER_S)
    except (NatsError, TimeoutError) as error:
        raise Unavailable("does not answer") from error


async def close(connection: NATS) -> None:
    """Close a connection, also while its server is away."""
    if not connection.is_connected:
        # The client would write what is pending to a transport that is gone, and fail.
        connection._pending = []
        connection._pending_data_size = 0
    await connection.close()


async def _first_connect(connection: NATS, url: str, options: dict[str, Any]) -> None:
    # The client's own loop would retry the first connect for ever; here it must fail fast.
    # It only counts attempts when it may make some.
    once = {"allow_reconnect": False, "max_reconnect_attempts": 1}
    away: Exception = NoServersError()
    for server in servers(url):
        try:
            probe = await nats.connect(
                server, **{**options, **once, "error_cb": _ignore, "closed_cb": None}
            )
        except (NoServersError, OSError, NatsError, TimeoutError) as error:
            away = error
            continue
        await probe.close()
        await connection.connect(servers(url), **options)
        return
    raise away


def leaving_the_lonely(connection: NATS) -> NATS:
    """Let a connection go to the next server when its own tells that it has lost its cluster.

    Such a server answers pings, but no stream is within its reach. One that is not to advertise
    its cluster (`no_advertise`) does not tell; there only runners notice that they are not served.
    """
    follow = connection._process_info
    advertised = len(connection._server_info.get("connect_urls") or ())

    async def process(info: dict[str, Any], initial_connection: bool = False) -> None:
        nonlocal advertised
        await follow(info, initial_connection)
        before, advertised = advertised, len(info.get("connect_urls") or ())
        if advertised <= 1 < before and not initial_connection:
            log.warning("nats_server_alone", server=info.get("server_name"))
            await connection.force_reconnect()

    connection._process_info = process  # type: ignore[method-assign]
    return connection


def servers(url: str) -> list[str]:
    """Split the URLs of a cluster, which commas separate, and put them into an order of our own.

    What follows a `?` is for `connect_options`, and for all of them.
    """
    urls = [one.strip() for one in url.partition("?")[0].split(",") if one.strip()]
    return random.sample(urls, len(urls))


async def _ignore(_: Exception) -> None:
    return None


def _check(connection: NATS, expect_cluster: str | None) -> None:
    info = connection._server_info
    version = tuple(int(part) for part in re.findall(r"\d+", info.get("version", "0.0"))[:2])
    if version < MIN_SERVER:
        raise Unavailable(
            f"nats-server {info.get('version')} is too old",
            "Octarm needs nats-server 2.12 or newer (per-message TTL, atomic batches).",
        )
    if not info.get("jetstream"):
        raise Unavailable("this nats-server has no JetStream", "Start it with JetStream enabled.")
    cluster = info.get("cluster") or info.get("server_name")
    if expect_cluster is not None and expect_cluster not in (cluster, info.get("server_name")):
        raise Unavailable(
            f"this is NATS cluster {cluster!r}, not {expect_cluster!r}",
            "Check OCTARM_NATS_URL and OCTARM_NATS_CLUSTER.",
        )


def _without_secret(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//***@", url)
