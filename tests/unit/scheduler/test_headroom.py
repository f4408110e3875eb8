"""What attempts take of their providers, and what a provider's 429 does to the fleet."""

import msgspec
import pytest

from octarm.common.testing.fakes import FakeClock
from octarm.models.hot import ResultKey
from octarm.policies.builtin import DEFAULT
from octarm.policies.context import ArmFacts
from octarm.policies.queue.arms import Arms
from octarm.policies.queue.governors import Governor, ProviderLimits
from octarm.policies.queue.homes import Homes
from octarm.scheduler.domain.cycle import place
from octarm.scheduler.domain.explain import why_waiting
from octarm.scheduler.domain.fleet import Fleet
from octarm.scheduler.domain.queue import ShardQueue
from octarm.scheduler.domain.tasks import Hold
from octarm.scheduler.usecases.desk import Desk
from octarm.scheduler.usecases.follow import CountSpend, FreeSlot, HearHeartbeat, Spend, Spends
from octarm.scheduler.usecases.rivals import Placed, Placements, Rivals
from tests.support.scheduling import NOON_S, a_desk, beat, facts, ready, task_id

KEY = "cloud//small"
LABELS = {"provider": "cloud", "model": "small"}


def calling(arm_id: str) -> ArmFacts:
    return msgspec.structs.replace(facts(arm_id), labels=LABELS)


def a_desk_with(limits: ProviderLimits, *arm_ids: str, slots: int = 4) -> Desk:
    """Arms that all call one provider."""
    arms = Arms(DEFAULT.prefer, providers=[limits])
    queue = ShardQueue(DEFAULT, arms)
    desk = Desk(0, 1000, FakeClock(), queue, Fleet(arms, queue), leading=True)
    for arm_id in arm_ids:
        desk.fleet.learn(calling(arm_id), at_s=NOON_S)
        desk.fleet.beat(beat(arm_id, slots, interval_s=60), now=1000.0)
    return desk


def governor(desk: Desk) -> Governor:
    found = desk.fleet.arms.providers.governor(KEY, NOON_S)
    assert found is not None
    return found


def wait_for_placing(desk: Desk, *numbers: int) -> None:
    for number in numbers:
        desk.admit(ready(number), Hold(number, 1, lambda: None), seen_ns=0, now=NOON_S)


def placed(desk: Desk, at_s: float = NOON_S) -> list[tuple[str, str]]:
    desk.queue.overdue(at_s)
    done = place(desk.queue, desk.fleet, Homes(), now=at_s, monotonic=1000.0)
    return [(it.task.task_id, it.pool.arm_id) for it in done]


def refused(number: int, error: object, arm_id: str = "one") -> ResultKey:
    return ResultKey(task_id(number), 1, arm_id, error=msgspec.Raw(msgspec.json.encode(error)))


RATE_LIMITED = {"code": "RATE_LIMITED", "retry_after_seconds": 30}


class TestRetryAfter:
    def test_a_result_with_a_429_holds_back_every_arm_of_the_provider(self) -> None:
        desk = a_desk_with(ProviderLimits(KEY), "one", "two")
        wait_for_placing(desk, 1)
        ((_, arm_id),) = placed(desk)
        wait_for_placing(desk, 2, 3)

        FreeSlot(desk)(refused(1, RATE_LIMITED, arm_id))

        assert placed(desk) == []
        assert placed(desk, NOON_S + 29) == []
        assert len(placed(desk, NOON_S + 30)) == 2

    @pytest.mark.parametrize(
        ("error", "for_s"),
        [
            ({"code": "RATE_LIMITED"}, 1.0),
            ({"code": "RATE_LIMITED", "retry_after_seconds": 90_000}, 3600.0),
            ({"code": "INTERNAL", "retry_after_seconds": 30}, 0.0),
            ({"code": 5}, 0.0),
            ("no object", 0.0),
        ],
    )
    def test_only_what_tells_of_a_429_does(self, error: object, for_s: float) -> None:
        desk = a_desk_with(ProviderLimits(KEY), "one")
        wait_for_placing(desk, 1)
        placed(desk)

        FreeSlot(desk)(refused(1, error))

        assert max(governor(desk).retry_at - NOON_S, 0.0) == for_s

    def test_a_result_of_an_attempt_that_is_not_known_changes_nothing(self) -> None:
        desk = a_desk_with(ProviderLimits(KEY), "one")
        wait_for_placing(desk, 1)
        placed(desk)

        FreeSlot(desk)(refused(7, RATE_LIMITED))

        assert governor(desk).retry_at == 0.0

    def test_a_heartbeat_says_it_to_leaders_and_those_who_stand_by(self) -> None:
        desk = a_desk_with(ProviderLimits(KEY), "one", "two")
        wait_for_placing(desk, 1)
        desk.work.clear()

        HearHeartbeat(desk)(beat("two", 4, interval_s=60, provider_wait_s=12.0))

        assert desk.work.is_set()
        assert placed(desk, NOON_S + 11) == []
        assert desk.queue.next_timer() == NOON_S + 12
        assert len(placed(desk, NOON_S + 12)) == 1

    def test_an_arm_that_names_no_provider_is_held_back_alone(self) -> None:
        desk = a_desk(facts("one"), facts("two"))

        HearHeartbeat(desk)(beat("one", 1, interval_s=60, provider_wait_s=12.0))
        wait_for_placing(desk, 1, 2)

        assert [arm for _, arm in placed(desk)] == ["two"]
        assert desk.fleet.resume(1011.0) == 1012.0
        assert desk.fleet.resume(1012.0) is None
        assert [arm for _, arm in placed(desk)] == ["one"]

    def test_whoever_asks_is_told_until_when(self) -> None:
        desk = a_desk_with(ProviderLimits(KEY), "one")
        HearHeartbeat(desk)(beat("one", 4, interval_s=60, provider_wait_s=12.0))
        wait_for_placing(desk, 1)
        placed(desk)

        wait = why_waiting(desk.queue, task_id(1), now=NOON_S)

        assert wait.reason == f"provider {KEY} is out of headroom until 12:00:12 UTC"
        assert wait.arms == {"one": f"its provider {KEY} is out of headroom"}
        assert wait.starts_in_s == 12.0


class TestTokens:
    def limited(self) -> Desk:
        return a_desk_with(ProviderLimits(KEY, tokens_per_minute=600), "one")

    def opens_in_s(self, desk: Desk) -> float:
        return governor(desk).opens_at(NOON_S) - NOON_S

    def test_what_a_result_says_is_counted_once(self) -> None:
        desk = self.limited()
        wait_for_placing(desk, 1)
        placed(desk)

        for _ in range(2):
            FreeSlot(desk)(ResultKey(task_id(1), 1, "one", tokens_used=660, llm_calls=1))

        # 60 more than there was, and as many as a task needs, which is all there can be.
        assert self.opens_in_s(desk) == pytest.approx(66)
        assert len(desk.fleet.headroom) == 0

    def test_what_calls_say_meanwhile_is_not_counted_again_at_the_end(self) -> None:
        desk = self.limited()
        wait_for_placing(desk, 1)
        placed(desk)

        for tokens in (100, 200):
            CountSpend(desk)(Spends([Spend(task_id(1), 1, tokens, 1), Spend(task_id(9), 1, 50)]))
        FreeSlot(desk)(ResultKey(task_id(1), 1, "one", tokens_used=300, llm_calls=2))

        assert governor(desk).typical_tokens == 300
        assert self.opens_in_s(desk) == 0.0
        wait_for_placing(desk, 2)
        assert len(placed(desk)) == 1
        # A typical task is thought to need what the first one has used.
        assert self.opens_in_s(desk) == pytest.approx(30)
        FreeSlot(desk)(ResultKey(task_id(2), 1, "one", tokens_used=0))
        assert self.opens_in_s(desk) == 0.0

    def test_an_attempt_that_ends_without_a_result_leaves_what_was_counted(self) -> None:
        desk = self.limited()
        wait_for_placing(desk, 1)
        placed(desk)
        CountSpend(desk)(Spends([Spend(task_id(1), 1, 600, 1)]))

        desk.fleet.release(task_id(1), 1)
        CountSpend(desk)(Spends([Spend(task_id(1), 1, 600, 1)]))
        desk.fleet.headroom.spent(
            (task_id(1), 1), desk.fleet.pool("one").arm, tokens=1, calls=1, now=NOON_S
        )
        desk.fleet.headroom.ended(
            (task_id(1), 1), desk.fleet.pool("one").arm, tokens=1, calls=1, now=NOON_S
        )

        assert self.opens_in_s(desk) == pytest.approx(0.1)

    def test_an_arm_that_does_not_name_its_provider_any_more_uses_nothing_of_it(self) -> None:
        desk = self.limited()
        wait_for_placing(desk, 1)
        placed(desk)
        desk.fleet.learn(facts("one"), at_s=NOON_S)

        FreeSlot(desk)(ResultKey(task_id(1), 1, "one", tokens_used=600, llm_calls=9))

        assert self.opens_in_s(desk) == 0.0


class TestRequests:
    def test_each_call_of_an_attempt_is_a_request(self) -> None:
        desk = a_desk_with(ProviderLimits(KEY, requests_per_minute=6), "one")
        wait_for_placing(desk, 1, 2)
        placed(desk)

        CountSpend(desk)(Spends([Spend(task_id(1), 1, 0, 2)]))
        FreeSlot(desk)(ResultKey(task_id(1), 1, "one", llm_calls=5))
        wait_for_placing(desk, 3)

        assert placed(desk) == []
        assert len(placed(desk, NOON_S + 10)) == 1

    def test_what_other_leaders_place_is_counted_too(self) -> None:
        desk = a_desk_with(ProviderLimits(KEY, requests_per_minute=2), "one")
        rivals = Rivals(desk, shards=2)

        rivals.placed(Placements(1, "one", [Placed(task_id(7), 1), Placed(task_id(8), 1)]))
        wait_for_placing(desk, 1)

        assert placed(desk) == []
        assert len(placed(desk, NOON_S + 30)) == 1
