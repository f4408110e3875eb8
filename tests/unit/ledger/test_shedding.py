"""What the load-shedding switch refuses: the stricter of two, with a time that is honest."""

import pytest

from octarm.ledger.domain.shedding import LONGEST_S, UNKNOWN_S, Sheds, Switch
from octarm.models.contracts import TaskSubmission
from octarm.models.errors import Backpressure
from octarm.models.shedding import ShedMode

INTERACTIVE = b'{"goal":"x"}'
BATCH = b'{"goal":"x","tier":"batch"}'
CHILD = b'{"goal":"x","tier":"batch","parent_task_id":"tsk_01kasx6z2nf8qtk5m1t3fn7x9c"}'


def refused(sheds: Sheds, submission: bytes, tenant: str = "acme") -> Backpressure | None:
    return sheds.refusal(tenant, submission, lambda: 0.0)


def shed(mode: ShedMode, tenant: str | None = None, left_s: float | None = None) -> Sheds:
    return Sheds({tenant: Switch(mode, "the provider is slow", left_s)})


def test_nothing_is_refused_while_all_are_open() -> None:
    assert not Sheds()
    assert refused(Sheds(), BATCH) is None
    assert not Sheds().all_new


@pytest.mark.parametrize(
    "submission",
    [BATCH, b'{"goal":"x","priority":6}', b'{"goal":"x","priority":"low"}'],
)
def test_batch_tasks_are_shed_however_they_say_that_they_are(submission: bytes) -> None:
    assert TaskSubmission.model_validate_json(submission).effective_tier == "batch"
    refusal = refused(shed(ShedMode.BATCH), submission)

    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.retryable) == (429, "LOAD_SHED", True)
    assert refusal.message == "operators shed batch tasks: the provider is slow"


@pytest.mark.parametrize(
    "submission",
    [
        INTERACTIVE,
        b'{"goal":"x","priority":9,"tier":"interactive"}',
        b'{"goal":"x","priority":"high"}',
        b'{"goal":"x","priority":"no such word"}',
        b'{"goal":"x","priority":7.5}',
    ],
)
def test_what_is_interactive_or_wrong_passes_the_switch_for_batch(submission: bytes) -> None:
    assert refused(shed(ShedMode.BATCH), submission) is None


def test_all_new_tasks_are_shed_and_children_of_accepted_ones_are_not() -> None:
    sheds = shed(ShedMode.ALL_NEW)

    assert sheds.all_new
    assert refused(sheds, INTERACTIVE) is not None
    assert refused(sheds, CHILD) is None


def test_what_is_no_json_is_left_to_who_says_what_is_wrong() -> None:
    assert refused(shed(ShedMode.ALL_NEW), b'{"goal":') is None
    assert refused(shed(ShedMode.ALL_NEW), b"[]") is None


def test_a_tenants_switch_is_its_own() -> None:
    sheds = shed(ShedMode.ALL_NEW, "acme")

    refusal = refused(sheds, INTERACTIVE)
    assert refusal is not None
    assert "operators shed new tasks of acme" in refusal.message
    assert refused(sheds, INTERACTIVE, "other") is None
    assert not sheds.all_new


@pytest.mark.parametrize("strict", [None, "acme"])
def test_the_stricter_of_the_fleets_and_the_tenants_counts(strict: str | None) -> None:
    mild = "acme" if strict is None else None
    sheds = Sheds({mild: Switch(ShedMode.BATCH, ""), strict: Switch(ShedMode.ALL_NEW, "")})

    refusal = refused(sheds, INTERACTIVE)

    assert refusal is not None
    assert "new tasks" in refusal.message
    assert not refusal.message.endswith(":")


@pytest.mark.parametrize(
    ("left_s", "seconds"),
    [(None, UNKNOWN_S), (12.2, 13), (0.1, 1), (9_999.0, LONGEST_S)],
)
def test_says_when_it_opens_where_that_is_known(left_s: float | None, seconds: int) -> None:
    refusal = refused(shed(ShedMode.ALL_NEW, left_s=left_s), INTERACTIVE)

    assert refusal is not None
    assert refusal.retry_after_s == seconds


def test_spreads_those_who_come_again() -> None:
    late = shed(ShedMode.ALL_NEW).refusal("acme", INTERACTIVE, lambda: 1.0)

    assert late is not None
    assert late.retry_after_s is not None
    assert UNKNOWN_S < late.retry_after_s <= UNKNOWN_S * 1.25 + 1
