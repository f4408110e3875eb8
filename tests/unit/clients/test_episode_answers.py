"""Answers to writes of episodes, and what only looks like them."""

import pytest

from octarm.clients.episode_answers import Written, read_answers
from octarm.models.errors import Conflict, OctarmError

CLOSED = Conflict("closed", code="EPISODE_CLOSED").problem().model_dump_json()


def test_each_write_has_its_own_answer() -> None:
    said = b'{"ok":{"answers":[{"created":true,"durable":true},{"problem":%b}]}}'

    kept, refused = read_answers(said % CLOSED.encode(), 2)

    assert isinstance(kept, Written)
    assert (kept.created, kept.durable, kept.waiting) == (True, True, False)
    assert isinstance(refused, Conflict)
    assert refused.code == "EPISODE_CLOSED"


def test_a_problem_is_that_of_every_write() -> None:
    answers = read_answers(f'{{"problem":{CLOSED}}}'.encode(), 3)

    assert [type(answer) for answer in answers] == [Conflict] * 3


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"{}", b"[]", b'{"ok":{"answers":[]}}', b'{"problem":{"status":"x"}}']
)
def test_what_is_no_answer_is_an_error_of_every_write(data: bytes) -> None:
    answers = read_answers(data, 2)

    assert [type(answer) for answer in answers] == [OctarmError] * 2
