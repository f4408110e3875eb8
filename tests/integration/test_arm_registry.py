"""The arm registry as a process of its own, on a real NATS."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client as NATS
from nats.js.errors import NotFoundError

from octarm.arm_registry.__main__ import main
from octarm.arm_registry.settings import Settings
from octarm.arm_registry.usecases import watch
from octarm.cli.stack.servers import nats_server
from octarm.clients.arm_registry import ArmRegistryClient
from octarm.common.bus.topology import arm_durable, consumer_names, provision
from octarm.models.errors import Conflict, Forbidden, InvalidRequest, NotFound, OctarmError
from octarm.models.subjects import DISPATCH, EVENTS, HEARTBEAT
from tests.support.arms import an_arm, beat_bytes
from tests.support.probes import probe
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
INTERVAL_S = 0.3


@asynccontextmanager
async def a_registry(nats_url: str, http_port: int = 0) -> AsyncGenerator[asyncio.Event, None]:
    """A registry in this process; setting the event it gives drains it."""
    stop = asyncio.Event()
    running = asyncio.create_task(main(Settings(nats_url=nats_url, http_port=http_port), stop))
    try:
        yield stop
    finally:
        stop.set()
        await running


@asynccontextmanager
async def a_registry_process(nats_url: str) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "octarm.arm_registry",
        env={**os.environ, "OCTARM_NATS_URL": nats_url, "OCTARM_HTTP_PORT": "0"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@pytest_asyncio.fixture
async def bus(nats_url: str) -> AsyncGenerator[NATS, None]:
    connection = await nats.connect(nats_url)
    await provision(connection.jetstream())
    yield connection
    await connection.close()


@asynccontextmanager
async def beating(bus: NATS, arm_id: str) -> AsyncGenerator[list[float], None]:
    """Beat twice an interval; gives the times of the beats so far."""
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(time.monotonic())
            body = beat_bytes(arm_id, interval_s=INTERVAL_S)
            await bus.publish(HEARTBEAT.at(arm_id=arm_id, instance_id="i-1"), body)
            await asyncio.sleep(INTERVAL_S / 2)

    task = asyncio.create_task(beat())
    try:
        yield beats
    finally:
        task.cancel()


async def answering(client: ArmRegistryClient) -> bool:
    try:
        await client.find()
    except OctarmError:
        return False
    return True


def status_is(client: ArmRegistryClient, arm_id: str, status: str) -> Callable[[], object]:
    async def check() -> bool:
        return (await client.get(arm_id)).status == status

    return check


async def event_types(bus: NATS) -> list[str]:
    js = bus.jetstream()
    state = (await js.stream_info(EVENTS)).state
    messages = [await js.get_msg(EVENTS, seq) for seq in range(1, state.last_seq + 1)]
    return [json.loads(message.data or b"")["type"] for message in messages]


class TestArmRegistry:
    async def test_answers_all_of_a_fleet_that_registers_at_once(
        self, nats_url: str, bus: NATS
    ) -> None:
        client, names = ArmRegistryClient(bus, timeout_s=20), {f"arm-{n}" for n in range(200)}
        async with a_registry(nats_url):
            await wait_until(lambda: answering(client), 10)

            records = await asyncio.gather(*(client.register(an_arm(name)) for name in names))

            found = {record.arm.arm_id for record in await client.find()}
        assert {record.arm.arm_id for record in records} == names
        assert found >= names
        assert await consumer_names(bus.jetstream(), DISPATCH) >= {arm_durable(n) for n in names}

    async def test_gives_arms_their_consumers_back_when_the_stream_is_made_anew(
        self, nats_url: str, bus: NATS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "RELIST_EVERY_S", 0.2)
        client, js = ArmRegistryClient(bus), bus.jetstream()

        async def has_its_consumer() -> bool:
            try:
                return bool(await js.consumer_info(DISPATCH, arm_durable("writer")))
            except NotFoundError:
                return False

        async with a_registry(nats_url):
            await wait_until(lambda: answering(client), 10)
            await client.register(an_arm("writer"))
            await js.delete_stream(DISPATCH)
            await provision(js)

            await wait_until(has_its_consumer, 10)

    async def test_an_arm_registers_comes_online_falls_silent_and_comes_back(
        self, nats_url: str, bus: NATS
    ) -> None:
        client = ArmRegistryClient(bus)
        async with a_registry(nats_url):
            await wait_until(lambda: answering(client), 10)

            registered = await client.register(an_arm("writer", capabilities=["write", "en"]))
            async with beating(bus, "writer"):
                await wait_until(status_is(client, "writer", "online"))
                await wait_until(lambda: _found(client, ["write", "en"], ["writer"]))
            await wait_until(status_is(client, "writer", "offline"))
            async with beating(bus, "writer"):
                await wait_until(status_is(client, "writer", "online"))
                drained = await client.drain("writer")
            gone = await client.deregister("writer")

        assert registered.status == "offline"
        assert drained.status == "draining"
        assert gone
        assert await bus.jetstream().consumer_info(DISPATCH, arm_durable("writer"))
        assert [kind for kind in await event_types(bus) if kind != "arm.degraded"] == [
            "arm.registered",
            "arm.online",
            "arm.offline",
            "arm.online",
            "arm.draining",
            "arm.deregistered",
        ]

    @pytest.mark.bad_input(13)
    async def test_refuses_what_is_not_the_askers_or_not_sound(
        self, nats_url: str, bus: NATS
    ) -> None:
        client = ArmRegistryClient(bus)
        async with a_registry(nats_url):
            await wait_until(lambda: answering(client), 10)
            await client.register(an_arm("writer"), key="mine")

            with pytest.raises(Conflict) as conflict:
                await client.register(an_arm("writer"), key="theirs")
            with pytest.raises(Forbidden):
                await client.drain("writer", key="theirs")
            with pytest.raises(NotFound) as unknown:
                await client.get("nobody")
            with pytest.raises(InvalidRequest) as unsound:
                await client.register(an_arm("reader", input_schema={"type": "nope"}))

        assert conflict.value.code == "ALREADY_EXISTS"
        assert unknown.value.code == "ARM_NOT_FOUND"
        assert unsound.value.errors is not None
        assert unsound.value.errors[0].field == "arm.input_schema"

    async def test_a_restart_does_not_shake_an_arm_that_beats(
        self, nats_url: str, bus: NATS
    ) -> None:
        client = ArmRegistryClient(bus)
        async with beating(bus, "writer") as beats:
            async with a_registry_process(nats_url) as first:
                await wait_until(lambda: answering(client), 10)
                await client.register(an_arm("writer"))
                await wait_until(status_is(client, "writer", "online"))
                first.kill()
                await first.wait()
            async with a_registry_process(nats_url) as second:
                await wait_until(lambda: answering(client), 10)
                await wait_until(lambda: _leads(bus), 10)
                await client.register(an_arm("writer", description="told by the second"))
                seen = len(beats)
                await wait_until(lambda: len(beats) > seen + 8)
                record = await client.get("writer")

        assert second.returncode == 0
        assert record.status == "online"
        assert [kind for kind in await event_types(bus) if kind != "arm.registered"] == [
            "arm.online"
        ]

    async def test_of_two_registries_one_judges_and_the_other_takes_over(
        self, nats_url: str, bus: NATS
    ) -> None:
        client = ArmRegistryClient(bus)
        async with a_registry(nats_url) as first, a_registry(nats_url):
            await wait_until(lambda: answering(client), 10)
            await wait_until(lambda: _leads(bus), 10)
            await client.register(an_arm("writer"))
            async with beating(bus, "writer"):
                await wait_until(status_is(client, "writer", "online"), 10)
                first.set()
            await wait_until(status_is(client, "writer", "offline"), 15)

    @pytest.mark.bad_input(12)
    async def test_a_flood_of_beats_leaves_the_registry_answering(
        self, nats_url: str, bus: NATS
    ) -> None:
        client = ArmRegistryClient(bus)
        async with a_registry(nats_url):
            await wait_until(lambda: answering(client), 10)
            await client.register(an_arm("writer"))
            subject = HEARTBEAT.at(arm_id="writer", instance_id="i-1")
            for _ in range(20_000):
                await bus.publish(subject, beat_bytes(slots=10**9, interval_s=-1))
            await bus.publish(subject, b"\xff not json")

            await wait_until(status_is(client, "writer", "online"))
            record = await client.get("writer")

        assert record.instances[0].slots == 10_000

    async def test_an_outage_of_the_bus_shakes_no_arm(self, tmp_path: Path) -> None:
        server = nats_server(tmp_path)
        await server.start()
        bus = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        try:
            await provision(bus.jetstream())
            client = ArmRegistryClient(bus)
            async with a_registry(server.url), beating(bus, "writer") as beats:
                await wait_until(lambda: answering(client), 10)
                await client.register(an_arm("writer"))
                await wait_until(status_is(client, "writer", "online"), 10)
                await server.stop()
                down = len(beats)
                await wait_until(lambda: len(beats) > down + 10)
                await server.start()
                await wait_until(lambda: answering(client), 15)
                up = len(beats)
                await wait_until(lambda: len(beats) > up + 20, 15)
                record = await client.get("writer")

            assert record.status == "online"
            assert await event_types(bus) == ["arm.registered", "arm.online"]
        finally:
            await bus.close()
            await server.stop()

    async def test_says_whether_it_lives_and_is_ready(
        self, nats_url: str, bus: NATS, unused_tcp_port: int
    ) -> None:
        async def answers(path: str, status: int) -> bool:
            return (await probe(unused_tcp_port, path))[0] == status

        async with a_registry(nats_url, http_port=unused_tcp_port):
            await wait_until(lambda: answers("/readyz", 200), 10)
            assert await answers("/healthz", 200)
            await wait_until(
                lambda: _shown(unused_tcp_port, 'octarm_registry_arms{status="online"}')
            )
            await bus.jetstream().delete_key_value("octarm_arms")
            status, body = await probe(unused_tcp_port, "/readyz")

        assert status == 503
        assert "directory" in body


async def _found(client: ArmRegistryClient, needs: list[str], ids: list[str]) -> bool:
    return [record.arm.arm_id for record in await client.find(needs)] == ids


async def _leads(bus: NATS) -> bool:
    bucket = await bus.jetstream().key_value("octarm_leaders")
    try:
        return bool((await bucket.get("arm-registry")).value)
    except nats.js.errors.KeyNotFoundError:
        return False


async def _shown(port: int, metric: str) -> bool:
    return metric in (await probe(port, "/metrics"))[1]
