"""What the doctor of a cluster makes of who runs there."""

from datetime import UTC, datetime

from octarm.cli.instances import SERVICES, judged
from octarm.cli.stack.doctor import Check, Verdict
from octarm.common.bus.identity import Seen
from octarm.models.identity import Identity

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def seen(service: str, *, version: str = "0.1.0", head: str = "", offset_s: float = 0.0) -> Seen:
    heads = {"ledger": head} if head else {}
    me = Identity(service=service, instance="i-1", version=version, heads=heads, at=NOON)
    return Seen(me, offset_s, 0.01)


def all_but(*services: str) -> list[Seen]:
    return [seen(service) for service in SERVICES if service not in services]


def bad(found: list[Seen], **heads: str) -> dict[str, Check]:
    by_name = sorted(found, key=lambda it: it.identity.service)
    return {it.name: it for it in judged(by_name, heads) if it.verdict is not Verdict.OK}


def test_one_of_each_of_one_version_on_its_own_tables_is_well() -> None:
    found = [*all_but("orchestrator"), seen("orchestrator", head="0011")]

    assert bad(found, ledger="0011") == {}


def test_what_does_not_answer_is_named() -> None:
    assert set(bad(all_but("memory"))) == {"service memory"}
    assert set(bad([])) == {f"service {service}" for service in SERVICES}


def test_tables_that_are_behind_keep_it_from_working() -> None:
    found = [*all_but("orchestrator"), seen("orchestrator", head="0011")]

    (check,) = bad(found, ledger="0009").values()

    assert (check.verdict, check.mend) == (Verdict.MISSING, "octarm db migrate")
    assert "made for migration 0011 of ledger; ledger is at 0009" in check.found


def test_two_versions_are_a_roll_out_that_has_not_ended() -> None:
    found = [*all_but(), seen("gateway", version="0.2.0")]

    warned = bad(found)

    assert warned["service gateway"].found.startswith("2 of 0.1.0, 0.2.0")
    assert {it.verdict for it in warned.values()} == {Verdict.WARNING}


def test_tables_of_a_newer_version_are_a_roll_out_too() -> None:
    found = [*all_but("orchestrator"), seen("orchestrator", head="0011")]

    assert set(bad(found, ledger="0012")) == {"service orchestrator"}


def test_a_clock_that_is_off_is_named() -> None:
    found = [*all_but("gateway"), seen("gateway", offset_s=-3.0)]

    (check,) = bad(found).values()

    assert check.name == "service clocks"
    assert "-3.000 s" in check.found
    assert "gateway i-1" in check.found
