"""What a stream with retention by interest does, and what a fence refuses: on both buses alike."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest
from nats.aio.client import Client as NATS
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig

from octarm.common.bus.publisher import Fence, Fenced, Outgoing, PubAck, Publisher
from octarm.models.errors import Backpressure
from tests.support.bus_suite import Scenario, bodies, on_nats_server, on_sim_bus, pull, put


async def a_stream_by_interest(nc: NATS, *consumers: str, **more: Any) -> None:
    """A stream `Q` on `q.*` that keeps what `d` (all of it) and others (`q.<name>`) want."""
    js = nc.jetstream()
    config = StreamConfig(
        name="Q",
        subjects=["q.*"],
        retention=RetentionPolicy.INTEREST,
        discard=DiscardPolicy.NEW,
        duplicate_window=60,
        **more,
    )
    await js.add_stream(config)
    for name in consumers:
        subjects = None if name == "d" else f"q.{name}"
        consumer = ConsumerConfig(durable_name=name, filter_subject=subjects, ack_wait=30)
        await js.add_consumer("Q", consumer)


async def held(nc: NATS) -> int:
    return (await nc.jetstream().stream_info("Q")).state.messages


async def by_interest_a_message_stays_until_all_have_it(nc: NATS) -> None:
    await a_stream_by_interest(nc, "d", "one")
    await put(nc, "a", "b", "c")
    (all_of, own), numbers = (await pull(nc), await pull(nc, durable="one")), []

    for message in (*all_of[:2], own[0], own[2], own[1], all_of[2]):
        await message.ack_sync()
        numbers.append(await held(nc))

    assert numbers == [3, 3, 2, 2, 1, 0]


async def by_interest_what_nobody_wants_is_gone_at_once(nc: NATS) -> None:
    await a_stream_by_interest(nc, "one")

    elsewhere, (ack,) = await put(nc, "a", subject="q.two"), await put(nc, "b")

    assert (ack.seq - elsewhere[0].seq, await held(nc)) == (1, 1)


async def by_interest_what_nobody_reads_is_kept(nc: NATS) -> None:
    await a_stream_by_interest(nc, "d", "one")
    await put(nc, "a")
    await put(nc, "b", subject="q.two")

    for message in await pull(nc):
        await message.ack_sync()

    assert await held(nc) == 1
    assert (await nc.jetstream().get_last_msg("Q", "q.one")).data == b"a"


async def by_interest_a_late_consumer_gets_what_is_left(nc: NATS) -> None:
    await a_stream_by_interest(nc, "d")
    await put(nc, "a", "b")
    (first, second) = await pull(nc)
    await first.ack_sync()

    consumer = ConsumerConfig(durable_name="one", filter_subject="q.one")
    await nc.jetstream().add_consumer("Q", consumer)
    await second.ack_sync()
    (left,) = await pull(nc, durable="one")
    before = await held(nc)
    await left.ack_sync()

    assert (left.data, before, await held(nc)) == (b"b", 1, 0)


async def by_interest_a_deleted_consumer_wants_nothing_more(nc: NATS) -> None:
    await a_stream_by_interest(nc, "d", "one")
    await put(nc, "a", "b")
    for message in (await pull(nc))[:1]:
        await message.ack_sync()

    await nc.jetstream().delete_consumer("Q", "one")
    await asyncio.sleep(0.2)

    assert await held(nc) == 1


async def a_fence_holds_as_long_as_its_subject_says_nothing_new(nc: NATS) -> None:
    await a_stream_by_interest(nc, "d", "one")
    publisher = Publisher(nc)
    (lead,) = await put(nc, "first", subject="q.lead")
    fence = Fence("q.lead", lead.seq)

    async def send(msg_id: str, fence: Fence) -> str:
        message = Outgoing("q.one", b"", msg_id, fence=fence)
        (answer,) = await publisher.publish_many([message])
        return answer.code if isinstance(answer, Fenced) else f"duplicate {answer.duplicate}"  # type: ignore[union-attr]

    said = [await send("a", fence), await send("a", fence), await send("b", Fence("q.lead", 9))]
    (newer,) = await put(nc, "second", subject="q.lead")
    said += [await send("c", fence), await send("a", fence)]
    said.append(await send("c", Fence("q.lead", newer.seq)))
    await publisher.close()

    fine, copy, refused = "duplicate False", "duplicate True", "STALE_LEADER"
    assert said == [fine, copy, refused, refused, refused, fine]


async def a_full_stream_by_interest_refuses_and_knows_what_it_has(nc: NATS) -> None:
    await a_stream_by_interest(nc, "d", "one", max_msgs=2)

    acks = await put(nc, "a", "b", "c", "a")
    for message in (await pull(nc))[:1]:
        await message.ack_sync()
    for message in (await pull(nc, durable="one"))[:1]:
        await message.ack_sync()

    assert [type(ack) for ack in acks] == [PubAck, PubAck, Backpressure, PubAck]
    assert type((await put(nc, "c"))[0]) is PubAck


async def a_subject_is_purged_but_for_its_newest(nc: NATS) -> None:
    await a_stream_by_interest(nc, "d")
    await put(nc, "a", "b", "c")
    await put(nc, "other", subject="q.two")

    await nc.jetstream().purge_stream("Q", subject="q.one", keep=1)

    assert bodies(await pull(nc)) == ["c", "other"]


async def the_ack_floor_passes_what_has_been_purged(nc: NATS) -> None:
    await a_stream_by_interest(nc, "d")
    await put(nc, "a", "b", "c")
    (first, second, third) = await pull(nc)
    await nc.jetstream().purge_stream("Q", subject="q.one", keep=1)

    for message in (first, second, third):
        await message.ack_sync()
    info = await nc.jetstream().consumer_info("Q", "d")

    assert info.num_ack_pending == 0
    assert info.ack_floor is not None
    assert info.ack_floor.stream_seq == third.metadata.sequence.stream


SCENARIOS: Final[list[Scenario]] = [
    by_interest_a_message_stays_until_all_have_it,
    by_interest_what_nobody_wants_is_gone_at_once,
    by_interest_what_nobody_reads_is_kept,
    by_interest_a_late_consumer_gets_what_is_left,
    by_interest_a_deleted_consumer_wants_nothing_more,
    a_fence_holds_as_long_as_its_subject_says_nothing_new,
    a_full_stream_by_interest_refuses_and_knows_what_it_has,
    a_subject_is_purged_but_for_its_newest,
    the_ack_floor_passes_what_has_been_purged,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_sim_bus(scenario: Scenario) -> None:
    on_sim_bus(scenario)


@pytest.mark.integration
async def test_nats_server(tmp_path: Path) -> None:
    await on_nats_server(SCENARIOS, tmp_path)
