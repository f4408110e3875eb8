from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from octarm.models.errors import Conflict, NotFound
from octarm.models.ids import new_id
from octarm.models.policies import SavePolicy
from octarm.policies import book as books
from octarm.policies.book import Act, Book, delete, deploy, roll_back, save, shadow, trip
from octarm.policies.supervisor import PLATFORM
from octarm.policies.versions import digest

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def an_act(minute: int = 0, **changed: Any) -> Act:
    return Act(new_id("evt"), NOON + timedelta(minutes=minute), "ops", **changed)


def a_policy(name: str = "mine", source: str = "v1") -> SavePolicy:
    return SavePolicy(name=name, kind="starlark", source=source, by="ops", note="n")


def a_book(*sources: str) -> Book:
    book = Book()
    for minute, source in enumerate(sources):
        book, _, _ = save(book, a_policy(source=source), an_act(minute))
    return book


V1, V2, V3 = digest("v1"), digest("v2"), digest("v3")


def test_a_version_is_its_content() -> None:
    book, version, event = save(Book(), a_policy(), an_act())

    assert version.digest == V1
    assert (version.size_bytes, version.created_by, version.state) == (2, "ops", "idle")
    assert event is not None
    assert (event.type, event.policy, event.detail) == (
        "policy.saved",
        V1,
        {"by": "ops", "name": "mine"},
    )
    assert book.find(V1) == version


def test_the_same_content_again_changes_nothing() -> None:
    book = a_book("v1")

    again, version, event = save(book, a_policy(name="other"), an_act(9))

    assert again is book
    assert (version.name, event) == ("mine", None)


def test_there_are_only_so_many_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "MAX_VERSIONS", 1)

    with pytest.raises(Conflict, match="1 versions"):
        save(a_book("v1"), a_policy(source="v2"), an_act())


def test_is_found_by_digest_beginning_or_name() -> None:
    book = a_book("v1", "v2")

    assert book.find(V1).digest == V1
    assert book.find(V2[:8]).digest == V2
    assert book.find("mine").digest == V2


@pytest.mark.parametrize("ref", ["other", V1[:7], "00000000"])
def test_is_not_found_by_anything_else(ref: str) -> None:
    with pytest.raises(NotFound):
        a_book("v1").find(ref)


def test_a_beginning_that_several_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "SHORTEST_REF", 0)

    with pytest.raises(Conflict, match="2 policies"):
        a_book("v1", "v2").find("")


def test_lists_the_newest_first_with_their_states() -> None:
    book = a_book("v1", "v2", "v3", "v4")
    book, _ = deploy(book, V1, an_act())
    book, _ = trip(book, PLATFORM, "3 failures", an_act())
    book, _ = deploy(book, V2, an_act())
    book, _ = shadow(book, V3, an_act())

    assert [(it.digest, it.state) for it in book.listed()] == [
        (digest("v4"), "idle"),
        (V3, "shadow"),
        (V2, "live"),
        (V1, "tripped"),
    ]
    assert book.listed("other") == []
    assert not hasattr(book.listed()[0], "source")


def test_deploys_and_says_what_was_replaced() -> None:
    book, first = deploy(a_book("v1", "v2"), "mine", an_act())
    book, second = deploy(book, V1, an_act(1))

    assert book.live == V1
    assert [(it.digest, it.replaces) for it in book.deployments] == [(V1, V2), (V2, None)]
    assert first is not None
    assert second is not None
    assert first.detail == {"by": "ops", "replaces": PLATFORM}
    assert (second.policy, second.detail["replaces"]) == (V1, V2)


def test_deploying_what_is_live_changes_nothing() -> None:
    book, _ = deploy(a_book("v1"), V1, an_act())

    assert deploy(book, V1, an_act()) == (book, None)


def test_a_tripped_version_that_is_deployed_again_is_no_longer_tripped() -> None:
    book, _ = deploy(a_book("v1"), V1, an_act())
    book, event = trip(book, PLATFORM, "3 failures", an_act())
    assert (book.live, book.tripped) == (None, frozenset({V1}))
    assert event is not None
    assert event.detail == {"by": "ops", "because": "3 failures", "now": PLATFORM}

    book, _ = deploy(book, V1, an_act())

    assert (book.live, book.tripped) == (V1, frozenset())


@pytest.mark.parametrize(("to", "live"), [(V2, V2), (V3, None), (PLATFORM, None)])
def test_a_trip_goes_to_a_version_that_is_still_there(to: str, live: str | None) -> None:
    book, _ = deploy(a_book("v1", "v2"), V1, an_act())

    assert trip(book, to, "why", an_act())[0].live == live


def test_nothing_is_tripped_while_the_platform_decides() -> None:
    assert trip(Book(), PLATFORM, "why", an_act()) == (Book(), None)


def test_rolls_back_to_what_was_replaced() -> None:
    book = a_book("v1", "v2")
    book, _ = deploy(book, V1, an_act())
    book, _ = deploy(book, V2, an_act())

    book, event = roll_back(book, an_act())

    assert book.live == V1
    assert event is not None
    assert (event.type, event.policy) == ("policy.rolled_back", V1)


def test_rolls_back_to_the_platform_when_what_was_replaced_has_gone() -> None:
    book, _ = deploy(a_book("v1", "v2"), V1, an_act())
    book, _ = deploy(book, V2, an_act())
    book, _ = delete(book, V1, an_act())

    assert roll_back(book, an_act())[0].live is None


def test_there_is_nothing_to_roll_back_before_the_first_deployment() -> None:
    with pytest.raises(Conflict, match="nothing was deployed"):
        roll_back(a_book("v1"), an_act())


def test_remembers_only_so_many_deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "MAX_DEPLOYMENTS", 3)
    book = a_book("v1", "v2")

    for n in range(9):
        book, _ = deploy(book, (V1, V2)[n % 2], an_act(n))

    assert len(book.deployments) == 3


def test_a_shadow_comes_and_goes() -> None:
    book, begun = shadow(a_book("v1"), V1, an_act())
    assert shadow(book, V1, an_act()) == (book, None)
    ended_book, ended = shadow(book, None, an_act())

    assert begun is not None
    assert ended is not None
    assert (begun.policy, ended.policy) == (V1, "none")
    assert (book.shadow, ended_book.shadow) == (V1, None)


def test_what_is_in_use_is_not_deleted() -> None:
    book, _ = deploy(a_book("v1", "v2", "v3"), V1, an_act())
    book, _ = shadow(book, V2, an_act())

    for ref in (V1, V2):
        with pytest.raises(Conflict, match="in use"):
            delete(book, ref, an_act())
    book, event = delete(book, V3, an_act())

    assert set(book.versions) == {V1, V2}
    assert event is not None
    assert (event.type, event.policy) == ("policy.deleted", V3)
    assert delete(book, V3, an_act()) == (book, None)
