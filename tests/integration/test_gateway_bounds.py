"""Connections that would hold the gateway up: slow heads, large heads, too many of them."""

import asyncio
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.fleet import FakeTasks
from tests.support.gateway import a_running_gateway, an_orchestrator, raw
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


async def test_a_head_that_does_not_end_is_cut_off(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octarm.gateway.server.HEAD_S", 0.2)
    async with a_running_gateway(nats_url) as gateway:
        answer = await raw(port_of(gateway.url), [b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
        silent = await raw(port_of(gateway.url), [])

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"REQUEST_TIMEOUT" in answer
    assert silent.startswith(b"HTTP/1.1 408 ")


async def test_the_second_request_of_a_connection_has_the_same_bound(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("octarm.gateway.server.HEAD_S", 0.3)
    async with a_running_gateway(nats_url) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(gateway.url))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        first = await reader.readuntil(b"}")
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        second = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        await writer.wait_closed()

    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 408 ")


async def test_a_head_without_end_is_too_large(nats_url: str) -> None:
    head = b"GET /healthz HTTP/1.1\r\n" + b"".join(
        b"X-%d: %s\r\n" % (n, b"x" * 900) for n in range(80)
    )
    async with a_running_gateway(nats_url) as gateway:
        answer = await raw(port_of(gateway.url), [head])

    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_more_connections_than_allowed_are_refused_and_the_others_served(
    nats_url: str,
) -> None:
    async with (
        an_orchestrator(nats_url, FakeTasks()),
        a_running_gateway(nats_url, max_connections=2) as gateway,
    ):
        first = await asyncio.open_connection("127.0.0.1", port_of(gateway.url))
        second = await asyncio.open_connection("127.0.0.1", port_of(gateway.url))
        refused = await _refused_at_last(port_of(gateway.url))
        for _, writer in (first, second):
            writer.close()
            await writer.wait_closed()
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            await wait_until(lambda: _is_served(client))

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in refused


async def _refused_at_last(port: int) -> bytes:
    """What one connection too many gets; the gateway may not have seen the others yet."""
    found = b""

    async def refused() -> bool:
        nonlocal found
        found = await raw(port, [b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
        return found.startswith(b"HTTP/1.1 503 ")

    await wait_until(refused)
    return found


async def _is_served(client: httpx.AsyncClient) -> bool:
    return (await client.post("/v1/tasks", json={"goal": "x"})).status_code == 202
