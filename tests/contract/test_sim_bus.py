"""One suite for JetStream: the simulated bus and nats-server behave alike, seen from the client.

Every scenario is a coroutine on a connection. On the simulated bus it runs on virtual time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from nats.aio.client import Client as NATS
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.js.api import ConsumerConfig, DiscardPolicy, KeyValueConfig, RetentionPolicy, StreamConfig
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError

from octarm.common.bus.publisher import PubAck
from octarm.models.errors import Backpressure
from tests.support.bus_suite import Scenario, bodies, on_nats_server, on_sim_bus, pull, put
from tests.support.wait import wait_until

PATIENCE_S: Final = 10.0


async def a_queue(nc: NATS, *, ack_wait_s: float = 30.0, most: int = 100, **more: Any) -> None:
    """A work queue `Q` on `q.*` with the durable `d` on `q.one`."""
    js = nc.jetstream()
    config = StreamConfig(
        name="Q",
        subjects=["q.*"],
        retention=RetentionPolicy.WORK_QUEUE,
        discard=DiscardPolicy.NEW,
        duplicate_window=60,
        **more,
    )
    await js.add_stream(config)
    consumer = ConsumerConfig(
        durable_name="d", filter_subject="q.one", ack_wait=ack_wait_s, max_ack_pending=most
    )
    await js.add_consumer("Q", consumer)


async def counts(nc: NATS) -> tuple[int, int, int]:
    """Messages in the stream, pending acknowledgements, never delivered."""
    js = nc.jetstream()
    await nc.flush()
    info = await js.consumer_info("Q", "d")
    stream = await js.stream_info("Q")
    return stream.state.messages, info.num_ack_pending or 0, info.num_pending or 0


async def acknowledging_removes_from_a_work_queue(nc: NATS) -> None:
    await a_queue(nc)
    await put(nc, "a", "b", "c")

    first, second, _ = await pull(nc)
    await first.ack_sync()
    await second.term()

    # Nobody says when a message was removed that was not acknowledged with an answer.
    async def is_removed() -> bool:
        return await counts(nc) == (1, 1, 0)

    await wait_until(is_removed)


async def what_is_not_acknowledged_comes_again(nc: NATS) -> None:
    await a_queue(nc, ack_wait_s=1.0)
    await put(nc, "a", "b")

    first = await pull(nc)
    again = await pull(nc, 2, timeout_s=3.0)

    assert bodies(first) == ["a", "b"]
    assert sorted(bodies(again)) == ["a", "b"]
    assert [message.metadata.num_delivered for message in again] == [2, 2]
    assert [m.metadata.sequence.stream for m in again] == [1, 2]


async def a_late_acknowledgement_counts(nc: NATS) -> None:
    await a_queue(nc, ack_wait_s=1.0)
    await put(nc, "a")

    (first,) = await pull(nc)
    (_again,) = await pull(nc, 1, timeout_s=3.0)
    await first.ack_sync()

    assert await counts(nc) == (0, 0, 0)


async def nak_brings_it_back_and_not_before_its_delay(nc: NATS) -> None:
    await a_queue(nc)
    await put(nc, "now", "later")

    now, later = await pull(nc)
    await now.nak()
    await later.nak(delay=2)

    assert bodies(await pull(nc)) == ["now"]
    assert bodies(await pull(nc, timeout_s=3.0)) == ["later"]


async def in_progress_puts_redelivery_off(nc: NATS) -> None:
    await a_queue(nc, ack_wait_s=4.0)
    await put(nc, "a")

    (message,) = await pull(nc, 1)
    await asyncio.sleep(2.2)
    await message.in_progress()
    await asyncio.sleep(2.2)

    assert await pull(nc, timeout_s=0.1) == []


async def no_more_than_max_ack_pending_are_out(nc: NATS) -> None:
    await a_queue(nc, most=2)
    await put(nc, "a", "b", "c")

    out = await pull(nc)
    assert bodies(out) == ["a", "b"]
    assert await pull(nc, timeout_s=0.2) == []
    await out[0].ack_sync()

    assert bodies(await pull(nc)) == ["c"]


async def a_msg_id_is_stored_once(nc: NATS) -> None:
    await a_queue(nc)

    first, other, again = await put(nc, "a", "b", "a")
    (elsewhere,) = await put(nc, "a", subject="q.two")

    assert [ack.duplicate for ack in (first, other, again, elsewhere)] == [False, False, True, True]
    assert (again.seq, elsewhere.seq) == (first.seq, first.seq)


async def a_full_stream_refuses_but_knows_what_it_has(nc: NATS) -> None:
    await a_queue(nc, max_msgs=2)

    acks = await put(nc, "a", "b", "c", "a")

    assert [type(ack) for ack in acks] == [PubAck, PubAck, Backpressure, PubAck]
    assert acks[3].duplicate


async def deleting_a_message_takes_it_from_its_consumer(nc: NATS) -> None:
    await a_queue(nc)
    await put(nc, "a", "b")
    await nc.jetstream().delete_msg("Q", 1)

    assert bodies(await pull(nc)) == ["b"]
    with pytest.raises(APIError):
        await nc.jetstream().delete_msg("Q", 1)


async def a_message_is_got_by_sequence_and_by_what_follows(nc: NATS) -> None:
    await a_queue(nc)
    await put(nc, "a", "b")
    await put(nc, "c", subject="q.two")
    js = nc.jetstream()

    assert (await js.get_msg("Q", 2)).data == b"b"
    following = await js.get_msg("Q", 1, "q.two", next=True)
    assert (following.seq, following.subject, following.data) == (3, "q.two", b"c")
    with pytest.raises(NotFoundError):
        await js.get_msg("Q", 4)
    with pytest.raises(NotFoundError):
        await js.get_msg("Q", 3, "q.one", next=True)


async def the_ack_floor_follows_what_is_done(nc: NATS) -> None:
    await a_queue(nc)
    await put(nc, "a", "b", "c")
    js = nc.jetstream()
    floors = []

    messages = await pull(nc, 2)
    for message in reversed(messages):
        floors.append((await js.consumer_info("Q", "d")).ack_floor)
        await message.ack_sync()
    floors.append((await js.consumer_info("Q", "d")).ack_floor)

    assert [floor.stream_seq for floor in floors if floor] == [0, 0, 2]


async def a_consumer_made_anew_gets_everything_again(nc: NATS) -> None:
    await a_queue(nc)
    await put(nc, "a", "b", "c")
    (first, *_) = await pull(nc)
    await first.ack_sync()
    js = nc.jetstream()

    await js.delete_consumer("Q", "d")
    await js.add_consumer("Q", ConsumerConfig(durable_name="d", filter_subject="q.one"))

    assert bodies(await pull(nc)) == ["b", "c"]
    with pytest.raises(NotFoundError):
        await js.consumer_info("Q", "nobody")


async def a_work_queue_has_one_consumer_for_a_subject(nc: NATS) -> None:
    await a_queue(nc)

    with pytest.raises(APIError) as caught:
        await nc.jetstream().add_consumer(
            "Q", ConsumerConfig(durable_name="e", filter_subject="q.one")
        )

    assert caught.value.err_code == 10100


async def a_request_that_nobody_answers_fails_at_once(nc: NATS) -> None:
    with pytest.raises(NoRespondersError):
        await nc.request("nobody.is.here", b"", timeout=5)


async def of_a_queue_group_one_is_told(nc: NATS) -> None:
    told: list[str] = []

    def hear(name: str) -> Callable[[Msg], Awaitable[None]]:
        async def heard(_: Msg) -> None:
            told.append(name)

        return heard

    for name in ("one", "two"):
        await nc.subscribe("news.*", queue="group", cb=hear(name))
    await nc.subscribe("news.>", cb=hear("all"))
    await nc.publish("news.today", b"")
    await nc.flush()
    await asyncio.sleep(0.1)

    assert (len(told), told.count("all")) == (2, 1)


async def a_key_is_created_once_and_updated_by_revision(nc: NATS) -> None:
    bucket = await nc.jetstream().create_key_value(KeyValueConfig(bucket="b", history=1))

    revision = await bucket.create("k", b"1")
    with pytest.raises(KeyWrongLastSequenceError):
        await bucket.create("k", b"2")
    newer = await bucket.update("k", b"3", last=revision)
    with pytest.raises(KeyWrongLastSequenceError):
        await bucket.update("k", b"4", last=revision)

    assert newer == revision + 1
    assert (await bucket.get("k")).value == b"3"


async def a_deleted_key_is_gone_and_may_be_created_again(nc: NATS) -> None:
    bucket = await nc.jetstream().create_key_value(KeyValueConfig(bucket="b", history=1))
    revision = await bucket.create("k", b"1")

    with pytest.raises(APIError):
        await bucket.delete("k", last=revision + 1)
    await bucket.delete("k", last=revision)
    with pytest.raises(KeyNotFoundError):
        await bucket.get("k")

    assert await bucket.create("k", b"2") == revision + 2


async def an_entry_ends_with_its_buckets_age(nc: NATS) -> None:
    bucket = await nc.jetstream().create_key_value(KeyValueConfig(bucket="b", history=1, ttl=4.0))
    revision = await bucket.create("k", b"1")

    await asyncio.sleep(2.2)
    await bucket.update("k", b"2", last=revision)
    await asyncio.sleep(2.2)
    assert (await bucket.get("k")).value == b"2"
    await asyncio.sleep(4.0)

    assert await bucket.create("k", b"3") == revision + 2


async def a_watcher_gets_what_is_there_then_what_changes(nc: NATS) -> None:
    bucket = await nc.jetstream().create_key_value(KeyValueConfig(bucket="b", history=1))
    await bucket.put("one", b"1")
    await bucket.put("one", b"2")
    await bucket.put("two", b"1")
    watcher: Any = await bucket.watchall()
    seen = []

    for _ in range(3):
        seen.append(await watcher.updates(timeout=PATIENCE_S))
    await bucket.put("three", b"1")
    await bucket.delete("one")
    for _ in range(2):
        seen.append(await watcher.updates(timeout=PATIENCE_S))
    await watcher.stop()

    told = [None if it is None else (it.key, it.revision, it.operation) for it in seen]
    assert told == [("one", 2, None), ("two", 3, None), None, ("three", 4, None), ("one", 5, "DEL")]


async def an_empty_bucket_says_so(nc: NATS) -> None:
    bucket = await nc.jetstream().create_key_value(KeyValueConfig(bucket="b", history=1))
    watcher: Any = await bucket.watchall()

    assert await watcher.updates(timeout=PATIENCE_S) is None
    await watcher.stop()


SCENARIOS: Final[list[Scenario]] = [
    acknowledging_removes_from_a_work_queue,
    what_is_not_acknowledged_comes_again,
    a_late_acknowledgement_counts,
    nak_brings_it_back_and_not_before_its_delay,
    in_progress_puts_redelivery_off,
    no_more_than_max_ack_pending_are_out,
    a_msg_id_is_stored_once,
    a_full_stream_refuses_but_knows_what_it_has,
    deleting_a_message_takes_it_from_its_consumer,
    a_message_is_got_by_sequence_and_by_what_follows,
    the_ack_floor_follows_what_is_done,
    a_consumer_made_anew_gets_everything_again,
    a_work_queue_has_one_consumer_for_a_subject,
    a_request_that_nobody_answers_fails_at_once,
    of_a_queue_group_one_is_told,
    a_key_is_created_once_and_updated_by_revision,
    a_deleted_key_is_gone_and_may_be_created_again,
    an_entry_ends_with_its_buckets_age,
    a_watcher_gets_what_is_there_then_what_changes,
    an_empty_bucket_says_so,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_sim_bus(scenario: Scenario) -> None:
    on_sim_bus(scenario)


@pytest.mark.integration
@pytest.mark.parametrize("part", range(4))
async def test_nats_server(part: int, tmp_path: Path) -> None:
    await on_nats_server(SCENARIOS[part::4], tmp_path)
