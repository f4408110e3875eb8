"""Submitting, following and cancelling, over real HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.fake_gateway import (
    TASK_ID,
    FakeGateway,
    Reply,
    Request,
    a_chunk,
    a_problem,
    a_result,
    a_stream,
    an_event,
)

EVENTS = f"GET /v1/tasks/{TASK_ID}/events"
RECEIPT = {"task_id": TASK_ID, "status": "queued", "state": "queued", "events_url": "/x"}


@pytest.fixture
def url(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> str:
    gateway.on("POST /v1/tasks", Reply(202, RECEIPT))
    gateway.on("GET /v1/arms", Reply(body={"arms": []}))
    monkeypatch.setattr("octarm.cli.events.time.sleep", lambda _: None)
    return gateway.url


def completed(output: Any = "hello", seq: int = 9) -> tuple[str, str, dict[str, Any]]:
    return an_event("completed", seq, result=a_result(output))


def body_of(gateway: FakeGateway) -> Any:
    return gateway.sent("POST /v1/tasks")[-1].body


class TestSubmit:
    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_says_on_stderr_that_it_waits(
        self, cli: Cli, gateway: FakeGateway, url: str, options: list[str]
    ) -> None:
        shed = a_problem(429, "LOAD_SHED", "backpressure", "all shed", retry_after_seconds=1)
        gateway.on("POST /v1/tasks", shed, Reply(202, RECEIPT))

        ran = cli("submit", "say hello", "--url", url, *options)

        assert ran.code == 0
        if options:
            said = json.loads(ran.err)
            assert (said["event"], said["retry_after_seconds"]) == ("waiting", 1)
            assert (said["code"], said["detail"]) == ("LOAD_SHED", "all shed")
        else:
            assert ran.err == "refused for now: all shed [LOAD_SHED]; again in 1 s\n"

    def test_prints_the_id_and_nothing_else(self, cli: Cli, url: str) -> None:
        ran = cli("submit", "say hello", "--url", url)

        assert (ran.code, ran.out, ran.err) == (0, f"{TASK_ID}\n", "")

    def test_puts_every_option_into_the_task(
        self, cli: Cli, gateway: FakeGateway, url: str, tmp_path: Path
    ) -> None:
        text = tmp_path / "text.txt"
        text.write_text("füße\n")
        more = tmp_path / "more.json"
        more.write_text('{"deep": {"a": 1}}')

        ran = cli(
            *("submit", "goal", "--url", url, "--arm", "llm", "--priority", "2"),
            *("--needs", "a,b", "--needs", "c", "--label", "team=x", "--timeout", "60"),
            *("-c", "n=3", "-c", "word=hello", "-c", f"text=@{text}", "-c", f"@{more}"),
            *("--constraint", "max_tokens=20", "--accept", "is short", "--budget-tokens", "9"),
            *(
                "--budget-cost",
                "0.5",
                "--budget-retries",
                "0",
                *("--not-before", "2029-01-01T00:00:00Z", "--depends-on", "tsk_1", "--depends-on"),
                *("tsk_2", "--on-dependency-failure", "skip"),
                "--deadline",
                "2030-01-01T00:00:00Z",
            ),
            *("--idempotency-key", "k1", "--parent", TASK_ID),
        )

        assert ran.code == 0
        assert body_of(gateway) == {
            "goal": "goal",
            "assigned_arm": "llm",
            "parent_task_id": TASK_ID,
            "priority": 2,
            "required_capabilities": ["a", "b", "c"],
            "labels": {"team": "x"},
            "timeout_seconds": 60,
            "context": {"n": 3, "word": "hello", "text": "füße\n", "deep": {"a": 1}},
            "constraints": {"max_tokens": 20},
            "acceptance_criteria": ["is short"],
            "budget": {"max_tokens": 9, "max_cost_dollars": 0.5, "max_retries": 0},
            "not_before": "2029-01-01T00:00:00Z",
            "depends_on": ["tsk_1", "tsk_2"],
            "on_dependency_failure": "skip",
            "deadline": "2030-01-01T00:00:00Z",
            "idempotency_key": "k1",
        }
        assert gateway.sent("POST /v1/tasks")[0].headers["idempotency-key"] == "k1"

    def test_reads_the_goal_from_stdin_and_the_rest_from_a_file(
        self, cli: Cli, gateway: FakeGateway, url: str, tmp_path: Path
    ) -> None:
        task = tmp_path / "task.json"
        task.write_text('{"goal": "old", "priority": 9, "labels": {"a": "1"}}')

        cli("submit", "-", "--file", str(task), "--priority", "high", "--url", url, stdin="new\n")

        assert body_of(gateway) == {"goal": "new", "priority": "high", "labels": {"a": "1"}}

    def test_makes_a_key_of_its_own_so_that_a_retry_is_the_same_task(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        busy = a_problem(503, "SERVICE_UNAVAILABLE", "unavailable", "x", retry_after_seconds=0)
        gateway.on("POST /v1/tasks", busy, Reply(202, RECEIPT))

        assert cli("submit", "x", "--url", url).code == 0

        keys = {r.headers["idempotency-key"] for r in gateway.sent("POST /v1/tasks")}
        assert len(gateway.sent("POST /v1/tasks")) == 2
        assert len(keys) == 1

    @pytest.mark.parametrize(
        "options",
        [
            ("-c", "novalue"),
            ("-c", "x=@/no/such/file"),
            ("--label", "=x"),
            ("--file", "/no/such/file"),
            ("-c", "@/dev/null"),
        ],
    )
    def test_refuses_options_that_say_nothing(
        self, cli: Cli, gateway: FakeGateway, url: str, options: tuple[str, ...]
    ) -> None:
        ran = cli("submit", "x", *options, "--url", url)

        assert ran.code == 3
        assert gateway.requests == []

    def test_refuses_files_that_are_not_text(self, cli: Cli, url: str, tmp_path: Path) -> None:
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")

        ran = cli("submit", "x", "-c", f"text=@{tmp_path / 'binary'}", "--url", url)

        assert (ran.code, "UTF-8" in ran.err) == (3, True)

    def test_leaves_it_to_the_gateway_to_refuse_a_zero(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        cli("submit", "x", "--slots", "0", "--timeout", "0", "--priority", "0", "--url", url)

        sent = body_of(gateway)
        assert (sent["slots"], sent["timeout_seconds"], sent["priority"]) == (0, 0, 0)

    def test_asks_for_a_trace(self, cli: Cli, gateway: FakeGateway, url: str) -> None:
        cli("submit", "x", "--trace", "--url", url)

        assert gateway.requests[0].headers["traceparent"].endswith("-01")


class TestRun:
    def test_prints_the_result_on_stdout_and_the_way_there_on_stderr(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        gateway.on(
            EVENTS,
            a_stream(
                an_event("accepted", 1, attempt=0),
                an_event("placed", 2, arm_id="llm", reason="least busy"),
                a_chunk("hel"),
                an_event("progress", 3, fraction=0.5, message="half\x1b[2J"),
                completed(),
            ),
        )

        ran = cli("run", "say hello", "--url", url)

        assert (ran.code, ran.out) == (0, "hello\n")
        assert "placed on llm: least busy" in ran.err
        assert "50 % half\\x1b[2J" in ran.err
        assert "arm llm · attempt 1 · 1.23 s · 42 tokens" in ran.err

    @pytest.mark.parametrize(
        ("options", "arms", "needs"),
        [
            ((), [{"arm": {}}], ["answer"]),
            ((), [], None),
            (("--needs", "b"), [{"arm": {}}], ["b"]),
            (("--arm", "a"), [{"arm": {}}], None),
        ],
    )
    def test_a_goal_alone_goes_to_an_arm_that_answers(
        self,
        cli: Cli,
        gateway: FakeGateway,
        url: str,
        options: tuple[str, ...],
        arms: list[Any],
        needs: list[str] | None,
    ) -> None:
        gateway.on("GET /v1/arms", Reply(body={"arms": arms}))
        gateway.on(EVENTS, a_stream(completed()))

        cli("run", "x", *options, "--url", url)

        assert body_of(gateway).get("required_capabilities") == needs

    def test_shows_what_a_command_wrote_where_it_wrote_it(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        error = a_problem(200, "VALIDATION_FAILED", "task", "exit code 3").body
        result = a_result({"stdout": "out\n", "stderr": "err\x1b\n"}, status="failure", error=error)
        gateway.on(EVENTS, a_stream(an_event("failed", 3, error=error, result=result)))

        ran = cli("run", "x", "--url", url)

        assert ran.out == "out\n"
        assert "err\\x1b\n" in ran.err

    def test_resumes_a_broken_stream_after_the_last_event_it_saw(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        gateway.on(
            EVENTS,
            a_stream(an_event("accepted", 1), an_event("started", 5)),
            a_problem(503, "SERVICE_UNAVAILABLE", "unavailable", "restarting"),
            a_stream(completed()),
        )

        ran = cli("run", "x", "--url", url)

        resumed = [r.headers.get("last-event-id") for r in gateway.sent(EVENTS)]
        assert (ran.code, ran.out) == (0, "hello\n")
        assert resumed == [None, "5", "5"]

    def test_gives_up_on_a_stream_that_never_ends(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        gateway.on(EVENTS, a_stream())

        ran = cli("run", "x", "--url", url)

        assert ran.code == 1
        assert "ends before the task does" in ran.err

    def test_asks_for_the_outcome_when_there_are_no_events_any_more(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        outcome = {"task_id": TASK_ID, "state": "completed", "result": a_result({"stdout": "3\n"})}
        gateway.on(EVENTS, Reply(204, raw=b""))
        gateway.on(f"GET /v1/tasks/{TASK_ID}/result", Reply(body=outcome))

        assert cli("run", "x", "--url", url).out == "3\n"

    def test_fetches_a_result_that_the_event_left_out(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        outcome = {"task_id": TASK_ID, "state": "completed", "result": a_result("large")}
        gateway.on(EVENTS, a_stream(an_event("completed", 3)))
        gateway.on(f"GET /v1/tasks/{TASK_ID}/result", Reply(body=outcome))

        assert cli("run", "x", "--url", url).out == "large\n"

    def test_a_failed_task_is_exit_code_one_with_its_reason(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        error = a_problem(200, "RETRIES_EXHAUSTED", "task", "it broke").body
        gateway.on(EVENTS, a_stream(an_event("failed", 3, error=error)))

        ran = cli("run", "x", "--url", url)

        assert (ran.code, ran.out) == (1, "")
        assert "error: it broke [RETRIES_EXHAUSTED]" in ran.err

    def test_streams_json_lines_and_nothing_else(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        gateway.on(EVENTS, a_stream(an_event("accepted", 1), a_chunk("\u202e"), completed()))

        ran = cli("run", "x", "--json", "--url", url)

        kinds = [line["event"] for line in ran.lines]
        assert kinds == ["task.accepted", "chunk", "task.completed", "result"]
        assert ran.lines[-1]["data"]["output"] == "hello"
        assert "\u202e" not in ran.out
        assert ran.err == ""

    def test_ctrl_c_cancels_the_task(self, cli: Cli, gateway: FakeGateway, url: str) -> None:
        cancel = f"POST /v1/tasks/{TASK_ID}/cancel"
        gateway.on(cancel, Reply(body={"task_id": TASK_ID, "state": "cancelled"}))
        gateway.on(EVENTS, a_stream(an_event("started", 1)))
        cli.monkeypatch.setattr("octarm.cli.follow.note", _interrupt_at("started"))

        ran = cli("run", "x", "--url", url)

        assert ran.code == 1
        assert "was cancelled" in ran.err
        assert len(gateway.sent(cancel)) == 1


def _interrupt_at(word: str) -> Callable[..., None]:
    def note(message: str, style: str = "") -> None:
        if word in message:
            raise KeyboardInterrupt

    return note


class TestWait:
    def test_submit_waits_for_the_result_when_asked(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        gateway.on(EVENTS, a_stream(completed({"a": [1, 2]})))

        ran = cli("submit", "x", "--wait", "--url", url)

        assert json.loads(ran.out) == {"a": [1, 2]}

    def test_watch_ends_with_the_task(self, cli: Cli, gateway: FakeGateway, url: str) -> None:
        gateway.on(EVENTS, a_stream(an_event("started", 1), completed()))

        ran = cli("tasks", "watch", TASK_ID, "--url", url)

        assert (ran.code, ran.out) == (0, "completed\n")

    def test_watching_all_prints_each_change_once(
        self, cli: Cli, gateway: FakeGateway, url: str
    ) -> None:
        from tests.support.fake_gateway import a_task

        def page(state: str) -> Callable[[Request], Reply]:
            return lambda _: Reply(body={"tasks": [a_task(state=state)], "cursor": ""})

        def stop(_: Request) -> Reply:
            cli.monkeypatch.setattr("octarm.cli.commands.tasks.time.sleep", _interrupt_now)
            return page("completed")(_)

        gateway.on("GET /v1/tasks", page("queued"), page("queued"), stop)

        ran = cli("tasks", "watch", "--all", "--url", url)

        assert ran.code == 0
        assert [line.split()[1] for line in ran.out.splitlines()] == ["queued", "completed"]


def _interrupt_now(_: float) -> None:
    raise KeyboardInterrupt
