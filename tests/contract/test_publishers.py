"""One suite for publishing: the fake and JetStream behave alike."""

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from octarm.common.bus.connection import connected_to
from octarm.common.bus.publisher import Outgoing, PubAck, Publisher
from octarm.common.bus.topology import provision
from octarm.common.testing import RecordingPublisher
from octarm.models.errors import OctarmError, Unavailable
from octarm.models.subjects import RUN_TASKS

SUBJECT = RUN_TASKS.at(arm_id="writer")
NOWHERE = "octarm.v1.nowhere"
Publishing = Publisher | RecordingPublisher


class PublisherContract:
    """What every publisher must do; no stream takes `NOWHERE`."""

    async def test_answers_each_message_in_order(self, publisher: Publishing) -> None:
        messages = [Outgoing(SUBJECT, b"%d" % i, f"n-{i}") for i in range(5)]

        answers = await publisher.publish_many(messages)

        assert [answer.seq for answer in answers if isinstance(answer, PubAck)] == [1, 2, 3, 4, 5]

    async def test_keeps_one_message_of_an_id(self, publisher: Publishing) -> None:
        first = await publisher.publish(Outgoing(SUBJECT, b"first", "same"))
        again = await publisher.publish(Outgoing(SUBJECT, b"again", "same"))

        assert (first.duplicate, again.duplicate) == (False, True)
        assert again.seq == first.seq

    async def test_a_refusal_leaves_its_neighbours_alone(self, publisher: Publishing) -> None:
        subjects = [SUBJECT, NOWHERE, SUBJECT]
        messages = [Outgoing(subject, b"", f"n-{i}") for i, subject in enumerate(subjects)]

        answers = await publisher.publish_many(messages)

        assert [isinstance(answer, OctarmError) for answer in answers] == [False, True, False]

    async def test_raises_the_refusal_of_one(self, publisher: Publishing) -> None:
        with pytest.raises(Unavailable):
            await publisher.publish(Outgoing(NOWHERE, b"", "x"))


class TestRecordingPublisher(PublisherContract):
    @pytest.fixture
    def publisher(self) -> RecordingPublisher:
        fake = RecordingPublisher()
        fake.refused[NOWHERE] = Unavailable("no stream takes it")
        return fake


@pytest.mark.integration
class TestJetStreamPublisher(PublisherContract):
    @pytest_asyncio.fixture
    async def publisher(self, nats_url: str) -> AsyncGenerator[Publisher, None]:
        async with connected_to(nats_url, name="contract") as nc:
            await provision(nc.jetstream())
            publisher = Publisher(nc)
            yield publisher
            await publisher.close()
