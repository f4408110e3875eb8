"""Outbox, updates, chunks and presence: what an arm says, and when."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import structs

from octarm.common.bus.publisher import Outgoing, PubAck, trace_head
from octarm.common.cancelling import end
from octarm.common.testing import RecordingPublisher
from octarm.models import hot
from octarm.models.arms import ArmCapability, ArmRecord
from octarm.models.commands import AttemptsUpdated
from octarm.models.errors import Forbidden, NotFound, OctarmError, PayloadTooLarge, Unavailable
from octarm.models.ids import new_id
from octarm.models.subjects import RESULT, RESULTS_REPORTED
from octarm.sdk.bundles import MAX_BYTES, bundles
from octarm.sdk.chunks import Chunks
from octarm.sdk.outbox import MAX_HINTS, Outbox
from octarm.sdk.presence import Presence
from octarm.sdk.recent import CalledOff, RecentResults
from octarm.sdk.throttle import Throttle
from octarm.sdk.updates import Updates
from tests.support.wait import wait_until

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def a_message(n: int = 1, subject: str = "results", size: int = 2) -> Outgoing:
    return Outgoing(subject, b"1" * size, f"m:{n}")


class TestOutbox:
    async def test_publishes_until_it_is_acknowledged(self) -> None:
        publisher = RecordingPublisher()
        publisher.refused["results"] = Unavailable("away")
        outbox = Outbox(publisher, first_backoff_s=0.001)
        running = asyncio.create_task(outbox.run())
        outbox.put(a_message(1))
        outbox.put_hint(a_message(2, "hints"))
        await wait_until(lambda: publisher.published)
        waiting = outbox.waiting()
        publisher.refused.clear()

        await outbox.emptied()
        running.cancel()

        assert waiting == 1
        assert [message.msg_id for message in publisher.published] == ["m:2", "m:1"]

    async def test_what_the_bus_will_never_take_holds_nothing_up(self) -> None:
        publisher = RecordingPublisher()
        publisher.refused["large"] = PayloadTooLarge("it does not fit the bus")
        outbox = Outbox(publisher, first_backoff_s=0.001)
        running = asyncio.create_task(outbox.run())
        for number, subject in ((1, "large"), (2, "s")):
            # Too large for a bundle: each goes alone.
            message = a_message(number, subject)
            outbox.put(structs.replace(message, payload=b"x" * (MAX_BYTES + 1)))

        await asyncio.wait_for(outbox.emptied(), 60)
        running.cancel()

        assert [message.msg_id for message in publisher.published] == ["m:2"]

    async def test_what_gathers_meanwhile_goes_together(self) -> None:
        gate = asyncio.Event()
        windows: list[list[str]] = []

        class Slow:
            async def publish_many(
                self, messages: Sequence[Outgoing]
            ) -> list[PubAck | OctarmError]:
                windows.append([message.msg_id for message in messages])
                await gate.wait()
                return [PubAck("S", 1, duplicate=False) for _ in messages]

        outbox = Outbox(Slow())
        running = asyncio.create_task(outbox.run())
        outbox.put(a_message(0))
        await wait_until(lambda: windows)
        for n in range(1, 6):
            outbox.put(a_message(n))
        gate.set()
        await outbox.emptied()
        running.cancel()

        assert windows == [["m:0"], ["m:1:m:5:5"]]

    async def test_a_refused_bundle_is_tried_again_with_all_its_results(self) -> None:
        publisher = RecordingPublisher()
        subject = RESULTS_REPORTED.at(arm_id="one")
        publisher.refused[subject] = Unavailable("the bus is away")
        outbox = Outbox(publisher, first_backoff_s=0.001)
        for n in range(100):
            outbox.put(a_message(n))
        running = asyncio.create_task(outbox.run())
        await asyncio.sleep(0)

        publisher.refused.clear()
        await outbox.emptied()
        running.cancel()

        reported = [
            len(msgspec.json.decode(message.payload)["results"]) for message in publisher.published
        ]
        assert reported == [64, 36]

    def test_traces_travel_with_their_results_and_what_is_large_goes_alone(self) -> None:
        traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
        traced = Outgoing("results", b"{}", "traced", trace_head(traceparent))
        large = Outgoing("results", b"x" * (MAX_BYTES + 1), "large")
        plain = [a_message(n) for n in range(3)]

        made = list(bundles([plain[0], traced, plain[1], large, plain[2]]))
        without = list(bundles(plain))

        assert [len(bundle.results) for bundle in made] == [1, 4]
        written = msgspec.json.decode(made[1].message.payload)
        assert written["traceparents"] == ["", traceparent, "", ""]
        assert "traceparents" not in msgspec.json.decode(without[0].message.payload)

    def test_results_of_several_arms_travel_by_arm(self) -> None:
        results = [Outgoing(RESULT.at(arm_id=f"arm-{n % 2}"), b"{}", f"m{n}") for n in range(6)]

        made = list(bundles(results))

        assert [bundle.message.subject for bundle in made] == [
            RESULTS_REPORTED.at(arm_id="arm-0"),
            RESULTS_REPORTED.at(arm_id="arm-1"),
        ]
        assert [msgspec.json.decode(it.message.payload)["arm_id"] for it in made] == [
            "arm-0",
            "arm-1",
        ]
        assert [bundle.results for bundle in made] == [tuple(results[::2]), tuple(results[1::2])]

    async def test_hints_give_way_when_too_many_wait(self) -> None:
        outbox = Outbox(RecordingPublisher())
        for n in range(MAX_HINTS + 5):
            outbox.put_hint(a_message(n))

        assert outbox.waiting() == MAX_HINTS


class Hints:
    def __init__(self) -> None:
        self.updates: list[tuple[str, float]] = []
        self.reports: list[Outgoing] = []
        self.backlog = 0

    def waiting(self) -> int:
        return self.backlog

    def put_report(self, message: Outgoing) -> None:
        self.reports.append(message)

    def put_hint(self, message: Outgoing) -> None:
        for update in AttemptsUpdated.model_validate_json(message.payload).updates:
            self.updates.append((update.kind, update.fraction))


async def nowhere(subject: str, payload: bytes) -> None:
    return None


class TestUpdates:
    @pytest.fixture
    async def now(self) -> list[float]:
        return [100.0]

    @pytest.fixture
    async def hints(self) -> Hints:
        return Hints()

    @pytest.fixture
    async def updates(self, hints: Hints, now: list[float]) -> Any:
        updates = Updates(
            hints,
            Chunks(nowhere),
            arm_id="worker",
            instance_id="i-1",
            gather_s=0.01,
            monotonic=lambda: now[0],
        )
        yield updates
        updates.close()

    async def test_attempts_that_end_at_once_are_not_reported(
        self, updates: Updates, hints: Hints
    ) -> None:
        short, long = (new_id("tsk"), 1), (new_id("tsk"), 1)
        updates.started(short, NOON)
        updates.started(long, NOON)
        updates.progress(*short, 0.1, "")
        updates.ended(short)
        updates.progress(*short, 0.2, "")
        await wait_until(lambda: hints.updates)

        assert hints.updates == [("started", 0.0)]

    async def test_an_attempt_that_begins_just_before_a_report_is_not_in_it(
        self, hints: Hints
    ) -> None:
        updates = Updates(hints, Chunks(nowhere), arm_id="worker", instance_id="i-1", gather_s=60.0)
        short, long = (new_id("tsk"), 1), (new_id("tsk"), 1)
        for key in (short, long):
            updates.started(key, NOON)

        updates.report()
        young = list(hints.updates)
        updates.ended(short)
        updates.report()
        updates.report()
        updates.close()

        assert (young, hints.updates) == ([], [("started", 0.0)])

    async def test_progress_travels_at_most_twice_a_second_and_the_last_counts(
        self, updates: Updates, hints: Hints, now: list[float]
    ) -> None:
        key = (new_id("tsk"), 1)
        updates.started(key, NOON)
        updates.progress(*key, 0.1, "")
        await wait_until(lambda: len(hints.updates) == 2)
        updates.progress(*key, 0.2, "")
        updates.progress(*key, 0.3, "")
        await asyncio.sleep(0.03)
        before = list(hints.updates)
        now[0] += 0.5
        await wait_until(lambda: len(hints.updates) == 3)

        assert before == [("started", 0.0), ("progress", 0.1)]
        assert hints.updates[-1] == ("progress", 0.3)


class TestThrottle:
    def test_the_longest_wait_counts_and_is_told_once(self) -> None:
        now, told = [100.0], list[float]()
        throttle = Throttle(lambda: told.append(now[0]), monotonic=lambda: now[0])

        throttle.put(30)
        throttle.put(20)
        now[0] += 10

        assert (throttle.left_s(), told) == (20.0, [100.0])
        throttle.put(1e9)
        assert throttle.left_s() == 86_400.0
        now[0] += 1e6
        assert throttle.left_s() == 0.0

    async def test_news_do_not_wait_for_the_next_beat(self) -> None:
        sent: list[str] = []
        presence = a_presence(FakeRegistry(), sent, interval_s=60.0)
        beating = asyncio.create_task(presence.run())
        await wait_until(lambda: len(sent) == 1)

        presence.hurry()
        await wait_until(lambda: len(sent) == 2)

        beating.cancel()
        await asyncio.wait({beating})


async def test_chunks_are_sent_in_order() -> None:
    sent: list[bytes] = []

    async def send(subject: str, payload: bytes) -> None:
        await asyncio.sleep(0)
        sent.append(payload)

    chunks = Chunks(send)
    await chunks.flushed()
    for seq in range(3):
        chunks.put(new_id("tsk"), 1, seq, "text")
    await chunks.flushed()

    assert [b'"seq":%d' % seq in payload for seq, payload in enumerate(sent)] == [True] * 3


class FakeRegistry:
    def __init__(self, *answers: OctarmError | None) -> None:
        self.answers = list(answers)
        self.registered = self.forgotten = self.asked = 0
        self.known: OctarmError | None = None

    async def register(self, arm: ArmCapability, key: str = "") -> ArmRecord:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.registered += 1
        return ArmRecord(arm=arm, status="online", registered_at=NOON, changed_at=NOON)

    async def get(self, arm_id: str) -> ArmRecord:
        self.asked += 1
        if self.known is not None:
            raise self.known
        arm = ArmCapability(arm_id=arm_id, name="x", capabilities=frozenset({"work"}))
        return ArmRecord(arm=arm, status="online", registered_at=NOON, changed_at=NOON)


def a_presence(
    registry: FakeRegistry, sent: list[str], *, interval_s: float = 0.001, beats_per_check: int = 6
) -> Presence:
    async def send(subject: str, payload: bytes) -> None:
        sent.append(subject)

    return Presence(
        registry,
        ArmCapability(arm_id="worker", name="Worker", capabilities=frozenset({"work"})),
        key="",
        state=lambda: hot.Heartbeat("worker", "i-1", 1, "ready", 1, []),
        send=send,
        interval_s=interval_s,
        beats_per_check=beats_per_check,
    )


class TestPresence:
    async def test_registers_once_the_registry_answers(self) -> None:
        registry = FakeRegistry(Unavailable("starting"))
        presence = a_presence(registry, [])

        await presence.register()

        assert (registry.registered, presence.registered) == (1, True)

    async def test_a_refusal_for_good_is_raised(self) -> None:
        with pytest.raises(Forbidden):
            await a_presence(FakeRegistry(Forbidden("another owner")), []).register()

    async def test_beats_on_while_it_cannot_register_again(self) -> None:
        registry = FakeRegistry(Unavailable("starting"))
        registry.known = NotFound("no such arm")
        sent: list[str] = []
        beating = asyncio.create_task(a_presence(registry, sent).run())
        await wait_until(lambda: registry.registered)
        registry.known = Unavailable("away")
        beats = len(sent)
        await wait_until(lambda: len(sent) > beats + 6)
        beating.cancel()

        assert sent[0] == "octarm.v1.hb.worker.i-1"
        assert registry.registered >= 1

    async def test_beats_on_while_the_registry_stands_still(self) -> None:
        class Still(FakeRegistry):
            async def get(self, arm_id: str) -> ArmRecord:
                self.asked += 1
                await asyncio.Event().wait()
                raise AssertionError

        registry, sent = Still(), list[str]()
        beating = asyncio.create_task(a_presence(registry, sent, beats_per_check=1).run())
        await wait_until(lambda: registry.asked)
        beats = len(sent)
        await wait_until(lambda: len(sent) > beats + 3)
        await end(beating)

        assert registry.asked == 1

    async def test_asks_at_once_when_another_arm_of_the_process_was_forgotten(self) -> None:
        registry, sent = FakeRegistry(), list[str]()
        beating = asyncio.create_task(a_presence(registry, sent, beats_per_check=10_000).run())
        await wait_until(lambda: len(sent) > 3)
        asked_before = registry.asked

        registry.forgotten += 1
        await wait_until(lambda: registry.asked)
        beats = len(sent)
        await wait_until(lambda: len(sent) > beats + 3)
        beating.cancel()

        assert (asked_before, registry.asked) == (0, 1)


class TestRecent:
    def test_forgets_the_oldest_results_by_number_and_by_bytes(self) -> None:
        recent = RecentResults(max_results=2, max_bytes=100)
        for n in (1, 2, 3):
            recent.put(("t", n), a_message(n))
        recent.put(("t", 4), a_message(4, size=99))

        assert [recent.get(("t", n)) is not None for n in (1, 2, 3, 4)] == [
            False,
            False,
            False,
            True,
        ]

    def test_forgets_the_oldest_calls_off(self) -> None:
        called_off = CalledOff(limit=1)
        called_off.put(("t", 1), "one")
        called_off.put(("t", 2), "two")

        assert [called_off.pop(("t", n)) for n in (1, 2, 2)] == [None, "two", None]
