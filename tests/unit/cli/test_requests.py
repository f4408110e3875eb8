"""Requests, retries and errors, over real HTTP."""

import pytest

from octarm.cli.http import Gateway
from octarm.cli.profiles import Target
from octarm.models.errors import OctarmError, Unavailable
from tests.support.cli import Cli
from tests.support.fake_gateway import TASK_ID, FakeGateway, Reply, a_problem, a_task

BUSY = a_problem(429, "QUEUE_FULL", "backpressure", "full", retryable=True, retry_after_seconds=7)

LONG = {"retryable": True, "retry_after_seconds": 1800}


class TestGateway:
    def test_waits_as_long_as_retry_after_says_and_tries_again(self, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/arms", BUSY, Reply(503, raw=b"down"), Reply(body={"arms": []}))
        pauses: list[float] = []

        with Gateway(Target(gateway.url), sleep=pauses.append) as client:
            assert client.get("/v1/arms") == {"arms": []}

        assert pauses[0] == 7
        assert len(pauses) == 2

    def test_gives_up_with_the_problem_after_five_tries(self, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/arms", BUSY)

        with (
            Gateway(Target(gateway.url), sleep=lambda _: None) as client,
            pytest.raises(OctarmError) as caught,
        ):
            client.get("/v1/arms")

        assert caught.value.code == "QUEUE_FULL"
        assert len(gateway.requests) == 5

    def test_tells_of_each_pause_and_why(self, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/arms", BUSY, Reply(body={"arms": []}))
        told: list[tuple[str, float]] = []

        def waiting(error: OctarmError, pause_s: float) -> None:
            told.append((error.code, pause_s))

        with Gateway(Target(gateway.url), sleep=lambda _: None, waiting=waiting) as client:
            client.get("/v1/arms")

        assert told == [("QUEUE_FULL", 7)]

    def test_does_not_wait_for_more_than_a_minute(self, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/arms", a_problem(429, "LOAD_SHED", "backpressure", "shed", **LONG))
        pauses: list[float] = []

        with (
            Gateway(Target(gateway.url), sleep=pauses.append) as client,
            pytest.raises(OctarmError) as caught,
        ):
            client.get("/v1/arms")

        assert (caught.value.retry_after_s, pauses) == (1800, [])

    def test_sends_again_what_got_no_answer(self, gateway: FakeGateway) -> None:
        gateway.on("POST /v1/tasks", Reply(lost=True), Reply(202, {"task_id": TASK_ID}))

        with Gateway(Target(gateway.url), sleep=lambda _: None) as client:
            assert client.post("/v1/tasks", {"goal": "x"}) == {"task_id": TASK_ID}

        gateway.on("POST /v1/tasks", Reply(lost=True))
        with (
            Gateway(Target(gateway.url), sleep=lambda _: None) as client,
            pytest.raises(Unavailable, match="no gateway answers"),
        ):
            client.post("/v1/tasks", {"goal": "x"})

    def test_sends_the_key_as_a_bearer_token(self, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/arms", Reply(body={"arms": []}))

        with Gateway(Target(gateway.url, api_key="k")) as client:
            client.get("/v1/arms")

        assert gateway.requests[0].headers["authorization"] == "Bearer k"

    def test_names_the_address_when_nobody_answers(self) -> None:
        with (
            Gateway(Target("http://127.0.0.1:1", source="--url")) as client,
            pytest.raises(Unavailable, match=r"http://127.0.0.1:1 \(from --url\)"),
        ):
            client.get("/v1/arms")

    @pytest.mark.parametrize(
        ("status", "exit_code"), [(401, 2), (403, 2), (404, 1), (418, 3), (500, 1), (502, 1)]
    )
    def test_understands_answers_that_are_no_problem_documents(
        self, cli: Cli, gateway: FakeGateway, status: int, exit_code: int
    ) -> None:
        gateway.on("GET /v1/arms", Reply(status, raw=b"<html>proxy</html>"))

        ran = cli("arms", "list", "--url", gateway.url)

        assert ran.code == exit_code
        assert ran.out == ""
        assert "proxy" not in ran.err

    def test_an_answer_that_is_not_json_is_an_error(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/arms", Reply(200, raw=b"<html>"))

        ran = cli("arms", "list", "--url", gateway.url)

        assert (ran.code, "not JSON" in ran.err) == (1, True)


class TestErrors:
    def test_one_line_and_a_hint_on_stderr(self, cli: Cli, gateway: FakeGateway) -> None:
        ran = cli("tasks", "get", TASK_ID, "--url", gateway.url)

        assert ran.code == 1
        assert ran.out == ""
        assert ran.err == "error: no such thing [TASK_NOT_FOUND]\nhint: do better\n"

    def test_a_problem_document_in_json_mode(self, cli: Cli, gateway: FakeGateway) -> None:
        ran = cli("--json", "tasks", "get", TASK_ID, "--url", gateway.url)

        assert ran.out == ""
        assert '"code": "TASK_NOT_FOUND"' in ran.err

    def test_lists_the_fields_that_were_refused(self, cli: Cli, gateway: FakeGateway) -> None:
        refused = a_problem(
            422,
            "INVALID_REQUEST",
            "validation",
            "bad",
            errors=[{"field": "budget.max_tokens", "message": "too\x1b[2Jsmall"}],
        )
        gateway.on("POST /v1/tasks", refused)

        ran = cli("submit", "x", "--url", gateway.url)

        assert ran.code == 3
        assert "  budget.max_tokens: too\\x1b[2Jsmall\n" in ran.err

    def test_authentication_is_exit_code_two(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/tasks", a_problem(401, "INVALID_TOKEN", "authentication", "who?"))

        assert cli("tasks", "list", "--url", gateway.url).code == 2

    @pytest.mark.parametrize(
        "arguments",
        [
            ("tasks", "lst"),
            ("tasks", "get"),
            ("submit", "x", "--colour", "red"),
            ("tasks", "list", "--limit", "many"),
            ("arms", "get", "a", "b"),
            ("submit",),
            ("tasks", "get", "../../healthz"),
            ("tasks", "watch"),
        ],
    )
    def test_wrong_usage_is_exit_code_three(self, cli: Cli, arguments: tuple[str, ...]) -> None:
        ran = cli(*arguments)

        assert ran.code == 3
        assert ran.out == ""
        assert ran.err.startswith("error: ")
        assert "hint: " in ran.err

    def test_options_may_stand_before_the_command(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/tasks", Reply(body={"tasks": [a_task()], "cursor": ""}))

        ran = cli("--json", "--url", gateway.url, "tasks", "list")

        assert [task["task_id"] for task in ran.json] == [TASK_ID]
