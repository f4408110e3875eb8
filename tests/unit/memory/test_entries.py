"""The episode that a base and its entries make."""

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from octarm.memory.domain.entries import (
    MAX_EPISODE_BYTES,
    Entry,
    encode,
    fold,
    opened,
    read_cached,
    stored,
)
from octarm.models.episodes import EpisodicMemory
from octarm.models.hot_episodes import EpisodeOpening
from tests.support.episodes import a_task_id, an_episode, an_episode_id, hours_later

BASE = opened(
    "acme", an_episode_id(1), EpisodeOpening(a_task_id(), "writer"), created_at=hours_later(0)
)
BODY = BASE.body.encode()


def an_observation(seq: int, body: object) -> Entry:
    return Entry(seq, "observation", Raw(json.dumps(body).encode()))


class TestFold:
    @given(st.permutations(range(6)))
    def test_order_of_arrival_does_not_matter(self, order: list[int]) -> None:
        entries = {str(number): an_observation(number // 2, number) for number in order}

        whole = json.loads(encode(fold(BODY, entries)))

        assert whole["observations"] == [0, 1, 2, 3, 4, 5]

    def test_leaves_out_what_does_not_fit_and_counts_it(self) -> None:
        entries = {str(n): an_observation(n, "x" * 60_000) for n in range(15)}

        whole = fold(BODY, entries)

        assert whole.left_out == 4
        assert len(whole.observations) == 11
        assert len(encode(whole)) <= MAX_EPISODE_BYTES + 200

    def test_the_longest_extension_counts_and_closed_is_closed(self) -> None:
        entries = {
            "a": Entry(3, "extend", ttl_seconds=9000),
            "b": Entry(4, "extend", ttl_seconds=60),
            "c": Entry(1, "close"),
        }

        whole = EpisodicMemory.model_validate_json(encode(fold(BODY, entries)))

        assert (whole.ttl_seconds, whole.closed) == (9000, True)

    def test_an_episode_of_a_finished_task_is_one_as_well(self) -> None:
        body = an_episode(1).body.encode()

        again = encode(fold(body, {}))

        assert EpisodicMemory.model_validate_json(again) == EpisodicMemory.model_validate_json(body)


class TestReadCached:
    def test_gives_what_was_stored(self) -> None:
        fields = [(b"a", stored(an_observation(1, "seen")))]

        text = read_cached("acme", an_episode_id(1), BODY, fields)

        assert text is not None
        assert json.loads(text)["observations"] == ["seen"]

    def test_what_is_not_this_episode_is_a_miss(self) -> None:
        assert read_cached("other", an_episode_id(1), BODY, []) is None
        assert read_cached("acme", an_episode_id(1), None, []) is None
        assert (
            read_cached("acme", an_episode_id(1), BODY, [(b"a", b'{"seq":1,"kind":"?"}')]) is None
        )
        assert read_cached("acme", an_episode_id(1), BODY, [(b"a", b"\xff")]) is None
