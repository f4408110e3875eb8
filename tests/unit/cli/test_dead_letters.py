"""`octarm dlq …` against a gateway that answers from memory."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.fake_gateway import FakeGateway, Reply, Request, a_fake_gateway

LETTER = {
    "seq": 17,
    "buried_at": "2026-11-21T12:00:00Z",
    "reason": "not JSON \x1b[31m",
    "origin": "orchestrator-accept-task",
    "subject": "octarm.v1.cmd.task.submit.acme",
    "stream_seq": 5,
    "msg_id": "m",
    "published_at": "2026-11-21T11:00:00Z",
    "deliveries": 6,
    "redrives": 1,
    "tenant": "acme",
    "task_id": "",
    "attempt": 0,
    "size_bytes": 9,
    "first_bytes": "{\x1b]0;owned\x07",
    "redrivable": True,
}
WHOLE = LETTER | {
    "headers": {"x-evil": "\x1b[2J"},
    "payload": "{\x1b]0;owned\x07 \u202e}",
    "not_redrivable_because": "",
}


def _answer(matched: int, *, more: bool = False, **others: Any) -> Reply:
    place = {"after": 500, "until": 999, "more": more}
    body = {"matched": matched, "done": matched, "gone": 0, "failed": []} | place
    return Reply(body=body | others)


@pytest.fixture
def gateway(cli: Cli) -> Iterator[FakeGateway]:
    with a_fake_gateway() as fake:
        cli.env(OCTARM_URL=fake.url)
        yield fake


class TestLooking:
    def test_lists_with_a_filter(self, cli: Cli, gateway: FakeGateway) -> None:
        page = {"letters": [LETTER], "after": 17, "until": 17, "more": False}
        gateway.on("GET /v1/dlq", Reply(body=page))

        ran = cli("dlq", "list", "--origin", "x", "--since", "2h", "--tenant", "acme")

        query = gateway.requests[0].query
        assert (ran.code, query["origin"], query["tenant"]) == (0, ["x"], ["acme"])
        since = datetime.fromisoformat(query["since"][0])
        assert timedelta(hours=1.9) < datetime.now(UTC) - since < timedelta(hours=2.1)
        assert "6/1" in ran.out
        assert "\x1b" not in ran.out

    def test_pages_to_the_limit_and_says_that_there_are_more(
        self, cli: Cli, gateway: FakeGateway
    ) -> None:
        page = {"letters": [LETTER] * 500, "after": 500, "until": 999, "more": True}
        gateway.on("GET /v1/dlq", Reply(body=page))

        ran = cli("dlq", "list", "-n", "1000")

        assert [one.query.get("after") for one in gateway.requests] == [None, ["500"]]
        assert len(ran.out.splitlines()) == 1001
        assert "there are more" in ran.err

    def test_says_that_there_are_none(self, cli: Cli, gateway: FakeGateway) -> None:
        page: dict[str, Any] = {"letters": [], "after": 0, "until": 0, "more": False}
        gateway.on("GET /v1/dlq", Reply(body=page))

        assert cli("dlq", "list").err == "no dead letters\n"
        assert cli("dlq", "list", "--json").json == []

    @pytest.mark.bad_input(20)
    def test_shows_one_so_that_no_terminal_obeys_it(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/dlq/17", Reply(body=WHOLE))

        ran = cli("dlq", "show", "17")

        assert "\\x1b]0;owned\\x07" in ran.out
        assert not {"\x1b", "\x07", "\u202e"} & set(ran.out)
        assert cli("dlq", "show", "17", "--json").json["seq"] == 17

    def test_shows_the_beginning_of_one_that_was_cut(self, cli: Cli, gateway: FakeGateway) -> None:
        cut = {"payload": None, "not_redrivable_because": "too large", "first_bytes": "{begin"}
        gateway.on("GET /v1/dlq/17", Reply(body=WHOLE | cut))

        ran = cli("dlq", "show", "17")

        assert "no: too large" in ran.out
        assert ran.out.endswith("{begin\n")

    def test_does_not_guess_at_a_time(self, cli: Cli) -> None:
        ran = cli("dlq", "list", "--since", "yesterday")

        assert (ran.code, "--since" in ran.err) == (3, True)


class TestActing:
    def test_needs_to_know_which(self, cli: Cli, gateway: FakeGateway) -> None:
        for arguments in ((), ("1", "--all"), ("--all", "--tenant", "acme")):
            ran = cli("dlq", "drop", *arguments)
            assert (ran.code, "which letters" in ran.err) == (3, True)
        assert gateway.requests == []

    def test_redrives_by_sequence(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/dlq/redrive", _answer(2))

        ran = cli("dlq", "redrive", "17", "18", "--yes")

        assert (ran.code, ran.out) == (0, "2 dead letters redriven\n")
        assert gateway.requests[0].body == {"seqs": [17, 18]}

    def test_goes_on_in_rounds_behind_the_last(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/dlq/drop", _answer(500, more=True), _answer(20, gone=1))

        ran = cli("dlq", "drop", "--reason", "six", "--yes")

        assert ran.out == "520 dead letters dropped, 1 were gone\n"
        assert [one.body for one in gateway.requests] == [
            {"reason": "six"},
            {"reason": "six", "after": 500, "until": 999},
        ]
        assert ran.err == "500\n"

    def test_a_dry_run_counts(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/dlq/redrive", _answer(1, done=0))

        ran = cli("dlq", "redrive", "--all", "--dry-run")

        assert ran.out == "1 dead letter would be redriven\n"
        assert gateway.requests[0].body == {"all": True, "dry_run": True}
        assert cli("dlq", "redrive", "--all", "--dry-run", "--json").json == {"matched": 1}

    def test_asks_nobody_who_is_not_there(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/dlq/drop", _answer(3, done=0))

        ran = cli("dlq", "drop", "--all")

        assert (ran.code, "--yes" in ran.err) == (3, True)
        assert all(one.body["dry_run"] for one in gateway.requests)

    @pytest.mark.parametrize(("word", "code"), [("y", 0), ("n", 1)])
    def test_asks_before_it_acts(
        self, cli: Cli, gateway: FakeGateway, word: str, code: int
    ) -> None:
        def counted(request: Request) -> Reply:
            return _answer(3, done=0 if request.body.get("dry_run") else 3)

        gateway.on("POST /v1/dlq/redrive", counted)
        cli.monkeypatch.setattr("octarm.cli.commands.dead_letters._is_asked", lambda: True)

        ran = cli("dlq", "redrive", "--all", stdin=f"{word}\n")

        assert ran.code == code
        assert "redrive 3 dead letters?" in ran.err
        acted = [one.body for one in gateway.requests if not one.body.get("dry_run")]
        assert acted == ([{"all": True, "until": 999}] if code == 0 else [])

    def test_says_that_nothing_fits(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/dlq/drop", _answer(0))

        assert "no dead letter fits" in cli("dlq", "drop", "--tenant", "x").err
        assert cli("dlq", "drop", "--tenant", "x", "--json").json["matched"] == 0

    def test_fails_when_letters_stay(self, cli: Cli, gateway: FakeGateway) -> None:
        failed = [{"seq": 9, "reason": "its payload was too large"}]
        gateway.on("POST /v1/dlq/redrive", _answer(2, done=1, failed=failed))

        ran = cli("dlq", "redrive", "--all", "--yes")

        assert ran.code == 1
        assert "9 stays: its payload was too large" in ran.err
        assert "[DEAD_LETTERS_STAY]" in ran.err
