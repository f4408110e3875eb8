"""`octarm ledger`: what it says, and with which exit code."""

import json
from pathlib import Path
from typing import Any

import pytest

from octarm.cli.__main__ import run
from octarm.cli.commands import ledger
from octarm.models.errors import Unavailable
from octarm.verify import check
from octarm.verify.invariants import Mode, Violation
from octarm.verify.report import Report

PLACES = ("--postgres-url", "postgresql://ledger", "--nats-url", "nats://bus")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the checker was asked; it finds what `asked[0]` says."""
    asked: list[Any] = [Report(Mode.QUIESCENT)]

    async def verify(sources: check.Sources, **options: Any) -> Report:
        asked.append((sources, options))
        if isinstance(asked[0], Exception):
            raise asked[0]
        assert isinstance(asked[0], Report)
        return asked[0]

    monkeypatch.setattr(check, "verify", verify)
    return asked


def test_a_clean_ledger_is_exit_code_zero(
    asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked[0].checked("I1")

    assert run(["ledger", "verify", *PLACES]) == 0

    out, err = capsys.readouterr()
    assert "I1\theld\t1" in out
    assert "clean (quiescent" in err


def test_what_is_broken_is_named_with_a_hint_and_exit_code_one(
    asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked[0].checked("I9", [Violation("I9", "a gap", 7, ("tsk_1",), "Look at the outbox.")])

    assert run(["ledger", "verify", *PLACES]) == 1

    out, err = capsys.readouterr()
    assert "I9\tbroken" in out
    assert "I9: a gap (7)" in err
    assert "hint: Look at the outbox." in err


def test_speaks_json(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ledger", "verify", "--live", "--wait", "3", *PLACES, "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["ok"] is True
    (_, (sources, options)) = asked
    assert sources.postgres_url == "postgresql://ledger"
    assert (options["mode"], options["wait_s"]) == (Mode.LIVE, 3.0)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Unavailable("the ledger could not be read"), 1, "could not be read"),
        (ValueError("h.jsonl:3 is not an operation"), 3, "h.jsonl:3"),
    ],
)
def test_says_what_could_not_be_read(
    error: Exception,
    code: int,
    said: str,
    asked: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked[0] = error

    assert run(["ledger", "verify", *PLACES]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["verify", "reconcile"])
def test_asks_where_the_parts_are(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable in ("OCTARM_POSTGRES_URL", "OCTARM_NATS_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OCTARM_DATA", str(tmp_path))

    assert run(["ledger", name]) == 3
    assert "_URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mended", "said"), [({"its lease ran out": 2}, "2\tits lease ran out\n"), ({}, "nothing")]
)
def test_says_what_was_mended(
    mended: dict[str, int],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def reconcile(*_: Any) -> dict[str, int]:
        return mended

    monkeypatch.setattr(ledger, "_reconcile", reconcile)

    assert run(["ledger", "reconcile", "--nats-url", "nats://bus"]) == 0
    assert capsys.readouterr().out.startswith(said)


def test_finds_the_stack_of_another_folder(asked: list[Any], tmp_path: Path) -> None:
    urls = {"postgres": "postgresql://there", "nats": "nats://there"}
    (tmp_path / "up.json").write_text(json.dumps(urls))

    assert run(["ledger", "verify", "--data", str(tmp_path)]) == 0
    sources, _ = asked[1]
    assert (sources.postgres_url, sources.nats_url) == ("postgresql://there", "nats://there")


@pytest.mark.parametrize("verb", ["verify", "reconcile"])
def test_says_where_it_looked_for_a_stack(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ledger", verb, "--data", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert f"no embedded stack runs on {tmp_path}" in said
    assert "--data or OCTARM_DATA" in said
