"""What a person sees on a terminal, a narrow one too."""

import re
from typing import Any, NoReturn

import pytest

from tests.support.cli import Cli
from tests.support.fake_gateway import (
    NOON,
    TASK_ID,
    FakeGateway,
    Reply,
    a_chunk,
    a_problem,
    a_result,
    a_stream,
    a_task,
    an_event,
)

_STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def url(cli: Cli, gateway: FakeGateway) -> str:
    cli.env(OCTARM_URL=gateway.url, FORCE_COLOR="1", COLUMNS="80", TERM="xterm-256color")
    return gateway.url


def plain(text: str) -> str:
    return _STYLES.sub("", text)


@pytest.mark.usefixtures("url")
class TestTables:
    @pytest.mark.parametrize("columns", ["40", "80", "140"])
    def test_ids_stay_whole_and_goals_are_cut(
        self, cli: Cli, gateway: FakeGateway, columns: str
    ) -> None:
        cli.env(COLUMNS=columns)
        goal = {"goal": "write \x1b[2J a very long story " * 20}
        gateway.on("GET /v1/tasks", Reply(body={"tasks": [a_task(task=goal)]}))

        shown = plain(cli("tasks", "list").out)

        assert TASK_ID in shown
        assert "…" in shown
        assert "\x1b" not in shown
        assert int(columns) < 80 or max(map(len, shown.splitlines())) <= int(columns)

    def test_a_tasks_attempts_are_a_table(self, cli: Cli, gateway: FakeGateway) -> None:
        attempts = [{"attempt": 1, "arm_id": "llm", "instance_id": "i-1", "reason": "x" * 300}]
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=a_task(attempts=attempts)))

        assert max(map(len, plain(cli("tasks", "get", TASK_ID).out).splitlines())) <= 80


@pytest.mark.usefixtures("url")
class TestRun:
    @pytest.fixture(autouse=True)
    def _accepts(self, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/tasks", Reply(202, {"task_id": TASK_ID}))
        gateway.on("GET /v1/arms", Reply(body={"arms": []}))

    def events(self, *more: tuple[str, str, dict[str, Any]]) -> Reply:
        return a_stream(
            an_event("accepted", 1),
            an_event("retried", 2, error={"detail": "broke"}, not_before=NOON),
            an_event("progress", 3, fraction=0.4, message="reading"),
            a_chunk("\x1b]0;title\x07piece"),
            *more,
        )

    def test_shows_progress_and_pieces_and_leaves_the_result(
        self, cli: Cli, gateway: FakeGateway
    ) -> None:
        end = an_event("completed", 4, result=a_result("done", cost_dollars=0.5))
        gateway.on(f"GET /v1/tasks/{TASK_ID}/events", self.events(end))

        ran = cli("run", "x")

        assert plain(ran.out) == "done\n"
        assert "]0;title" not in _STYLES.sub("", ran.err).replace("\\x1b]0;title\\x07", "")
        assert "$0.5000" in plain(ran.err)

    @pytest.mark.parametrize(
        ("answer", "cancels", "said"),
        [(True, 1, "was cancelled"), (False, 0, "left running"), (None, 0, "left running")],
    )
    def test_an_interrupt_asks_a_person(
        self, cli: Cli, gateway: FakeGateway, answer: bool | None, cancels: int, said: str
    ) -> None:
        # Not a signal: a run in the background ignores the interrupt from its start on.
        def interrupted(*_: object, **__: object) -> NoReturn:
            raise KeyboardInterrupt

        def confirm(*_: object, **__: object) -> bool:
            if answer is None:
                raise KeyboardInterrupt
            return answer

        cancel = f"POST /v1/tasks/{TASK_ID}/cancel"
        gateway.on(cancel, Reply(body={"state": "cancelled"}))
        cli.monkeypatch.setattr("octarm.cli.commands.submit.follow", interrupted)
        cli.monkeypatch.setattr("octarm.cli.commands.submit._is_watched", lambda: True)
        cli.monkeypatch.setattr("typer.confirm", confirm)

        ran = cli("run", "x")

        assert ran.code == 1
        assert said in plain(ran.err)
        assert len(gateway.sent(cancel)) == cancels

    @pytest.mark.parametrize(
        ("verb", "data", "said"),
        [
            (
                "timed_out",
                {"error": a_problem(504, "DEADLINE_EXCEEDED", "timeout", "late").body},
                "late",
            ),
            ("cancelled", {"reason": "not needed"}, "cancelled: not needed"),
            ("cancelled", {}, "cancelled"),
        ],
    )
    def test_says_how_a_task_ended(
        self, cli: Cli, gateway: FakeGateway, verb: str, data: dict[str, Any], said: str
    ) -> None:
        gateway.on(f"GET /v1/tasks/{TASK_ID}/events", self.events(an_event(verb, 4, **data)))

        ran = cli("run", "x")

        assert ran.code == 1
        assert f"error: {said}" in plain(ran.err)
