"""Receipts prove of whom they are to those who know, and that nobody changed them."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from octarm.memory.domain.receipts import (
    new_erasure_id,
    receipt_digest,
    subject_digest,
    tenant_digest,
)
from octarm.models.erasure import Erasure, Subject

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def a_receipt(**fields: object) -> Erasure:
    base: dict[str, object] = {
        "erasure_id": f"era_{'0' * 32}",
        "kind": "tag",
        "state": "done",
        "subject_sha256": "0" * 64,
        "begun_at": NOON,
        "finished_at": NOON,
        "counts": {"episodes": 1, "postgres.semantic": 2},
    }
    return Erasure.model_validate(base | fields)


def test_ids_are_their_own() -> None:
    one, other = new_erasure_id(), new_erasure_id()

    assert one != other
    assert a_receipt(erasure_id=one).erasure_id == one


def test_the_same_subject_has_another_digest_in_another_receipt() -> None:
    ann = Subject(tag="person:ann")

    assert subject_digest("a", ann) == subject_digest("a", Subject(tag="person:ann"))
    assert subject_digest("a", ann) != subject_digest("b", ann)
    assert subject_digest("a", ann) != subject_digest("a", Subject(everything=True))
    assert tenant_digest("acme") != tenant_digest("other")


def test_the_digest_changes_with_every_field_but_itself() -> None:
    receipt = a_receipt()

    assert receipt_digest(a_receipt(digest="f" * 64)) == receipt_digest(receipt)
    assert receipt_digest(a_receipt(counts={"episodes": 2})) != receipt_digest(receipt)
    assert receipt_digest(a_receipt(kind="task")) != receipt_digest(receipt)


@pytest.mark.parametrize(
    ("given", "kind", "key"),
    [
        ({"tag": "person:ann"}, "tag", "person:ann"),
        ({"task_id": "tsk_01jd5x2b3c4d5e6f7g8h9jkmnp"}, "task", "tsk_01jd5x2b3c4d5e6f7g8h9jkmnp"),
        ({"everything": True}, "tenant", ""),
    ],
)
def test_a_subject_is_one_of_three(given: dict[str, object], kind: str, key: str) -> None:
    subject = Subject.model_validate(given)

    assert (subject.kind, subject.key) == (kind, key)


@pytest.mark.parametrize("given", [{}, {"tag": "a", "everything": True}])
def test_a_subject_is_not_none_and_not_two(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        Subject.model_validate(given)
