"""What the control plane's subscriptions do on a real bus."""

import asyncio
from datetime import UTC, datetime

import nats
import pytest
from faststream.nats import NatsRouter

from octarm.common.bus.publisher import Outgoing, Publisher
from octarm.common.bus.requests import answer, ask, control_plane, on
from octarm.common.bus.topology import provision
from octarm.models.events import ArmEvent
from octarm.models.ids import typeid
from octarm.models.queries import ArmKey, Done
from octarm.models.subjects import ARM_EVENT, DEREGISTER_ARM
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


class TestOn:
    async def test_listening_does_not_answer_in_the_streams_place(self, nats_url: str) -> None:
        heard: asyncio.Queue[ArmEvent] = asyncio.Queue()
        router = NatsRouter()

        @on(router, ARM_EVENT)
        async def arm_changed(event: ArmEvent) -> None:
            heard.put_nowait(event)

        event = ArmEvent(
            event_id=typeid("evt", 1),
            occurred_at=datetime(2026, 11, 21, tzinfo=UTC),
            type="arm.online",
            arm_id="writer",
            status="online",
        )
        body = event.model_dump_json().encode()
        subject = ARM_EVENT.at(verb="online", arm_id="writer")
        connection = await nats.connect(nats_url)
        await provision(connection.jetstream())
        publisher = Publisher(connection)

        async def is_heard() -> bool:
            await connection.publish(subject, body)
            await connection.flush()
            return not heard.empty()

        async with control_plane(nats_url, router, name="test"):
            await wait_until(is_heard)
            acks = [await publisher.publish(Outgoing(subject, body, f"m{n}")) for n in range(20)]
            replies = await connection.subscribe("replies")
            await connection.publish(subject, body, "replies")
            first = await replies.next_msg(2)
            with pytest.raises(TimeoutError):
                await replies.next_msg(0.3)
        await publisher.close()
        await connection.close()

        assert heard.get_nowait() == event
        assert [ack.stream for ack in acks] == ["OCTARM_EVENTS"] * 20
        assert first.data.startswith(b'{"stream":')


class TestLeaving:
    async def test_loses_no_query_that_another_could_have_answered(self, nats_url: str) -> None:
        """Replicas are replaced while they are asked: each query finds one or the other."""

        def a_router() -> NatsRouter:
            router = NatsRouter()

            @answer(router, DEREGISTER_ARM, queue="registry")
            async def deregister(_: ArmKey) -> Done:
                await asyncio.sleep(0.002)
                return Done(changed=True)

            return router

        connection = await nats.connect(nats_url)
        enough, answered = asyncio.Event(), 0

        async def keep_asking() -> None:
            nonlocal answered
            while not enough.is_set():
                await ask(connection, DEREGISTER_ARM, ArmKey(arm_id="one"))
                answered += 1

        async with control_plane(nats_url, a_router(), name="stays"):
            asking = asyncio.gather(*(keep_asking() for _ in range(50)))
            for number in range(10):
                async with control_plane(nats_url, a_router(), name="leaves"):
                    await wait_until(lambda: answered > 200 * (number + 1))  # noqa: B023
            enough.set()
            await asking
        await connection.close()
