"""What the commands show of tasks, arms, memory, queue and traces."""

import json
from pathlib import Path
from typing import Any

import pytest

from octarm.cli.spans import read_spans
from tests.support.cli import Cli
from tests.support.fake_gateway import (
    EPISODE_ID,
    NOON,
    TASK_ID,
    FakeGateway,
    Reply,
    a_result,
    a_stream,
    a_task,
    an_event,
)

HOSTILE = "\x1b[31mred\u202e\nsecond line"
ARM = {
    "arm": {"arm_id": "llm", "name": "LLM", "version": "0.1.0", "capabilities": ["summarise"]},
    "status": "online",
    "instances": [
        {"instance_id": "llm-1", "status": "ready", "slots": 2, "running": 1, "seen_at": NOON}
    ],
    "registered_at": NOON,
}
EPISODE = {
    "episode_id": EPISODE_ID,
    "task_id": TASK_ID,
    "arm_id": "llm",
    "outcomes": [{"status": "success"}],
    "created_at": NOON,
}
TRACE_ID = "a" * 32


@pytest.fixture
def url(cli: Cli, gateway: FakeGateway) -> str:
    cli.env(OCTARM_URL=gateway.url)
    return gateway.url


@pytest.mark.usefixtures("url")
class TestTasks:
    def test_lists_over_pages_up_to_the_limit(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on(
            "GET /v1/tasks",
            Reply(body={"tasks": [a_task()] * 200, "cursor": "next"}),
            Reply(body={"tasks": [a_task()] * 50, "cursor": "more"}),
        )

        ran = cli("tasks", "list", "-n", "250", "--state", "running", "--json")

        first, second = gateway.requests
        assert len(ran.json) == 250
        assert first.query == {"state": ["running"], "limit": ["200"]}
        assert second.query == {"state": ["running"], "limit": ["50"], "cursor": ["next"]}

    def test_writes_one_line_a_task_and_escapes_the_goal(
        self, cli: Cli, gateway: FakeGateway
    ) -> None:
        gateway.on("GET /v1/tasks", Reply(body={"tasks": [a_task(task={"goal": HOSTILE})]}))

        ran = cli("tasks", "list")

        head, line = ran.out.splitlines()
        assert head.split("\t") == ["task", "state", "arm", "try", "prio", "age", "goal"]
        assert line.endswith("\t\\x1b[31mred\\u202e second line")

    def test_says_so_when_there_are_none(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/tasks", Reply(body={"tasks": [], "cursor": ""}))

        assert cli("tasks", "list").err == "no tasks\n"
        assert cli("tasks", "list", "--json").out == "[]\n"

    def test_shows_a_task_with_attempts_and_result(self, cli: Cli, gateway: FakeGateway) -> None:
        attempts = [
            {"attempt": 1, "arm_id": "llm", "outcome": "lost", "reason": "lease expired"},
            {"attempt": 2, "arm_id": "llm", "decision": {"reason": "least busy"}},
        ]
        task = a_task(state="completed", terminal_at=NOON, attempts=attempts)
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=task))
        result = {"state": "completed", "result": a_result({"text": f"hi {HOSTILE}"})}
        gateway.on(f"GET /v1/tasks/{TASK_ID}/result", Reply(body=result))

        ran = cli("tasks", "get", TASK_ID)

        assert "lease expired" in ran.out
        assert "least busy" in ran.out
        assert ran.out.endswith("hi \\x1b[31mred\\u202e\nsecond line\n")
        assert cli("tasks", "get", TASK_ID, "--json").json["result"]["tokens_used"] == 42

    def test_shows_where_the_budget_of_a_task_stands(self, cli: Cli, gateway: FakeGateway) -> None:
        amounts = ("tokens", "cost_dollars", "llm_calls", "time_ms")
        budget = {
            "granted": dict(zip(amounts, (20_000, 0.25, None, None), strict=True)),
            "reserved": dict(zip(amounts, (5000, 0.0, 0, 0), strict=True)),
            "spent": dict(zip(amounts, (15_000, 0.001624, 0, 2500), strict=True)),
            "overspent": dict(zip(amounts, (120, 0.0, 0, 0), strict=True)),
        }
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=a_task(budget=budget)))

        out = cli("tasks", "get", TASK_ID).out

        assert "15,000 spent of 20,000, 5,000 held by its children, 120 over" in out
        assert "0.001624 spent of 0.25\n" in out
        assert "2.5 spent\n" in out
        assert "budget calls" not in out

    @pytest.mark.parametrize(
        ("state", "said"),
        [("cancelled", "cancelled"), ("completed", "had already ended: completed")],
    )
    def test_cancels(self, cli: Cli, gateway: FakeGateway, state: str, said: str) -> None:
        gateway.on(f"POST /v1/tasks/{TASK_ID}/cancel", Reply(body={"state": state}))

        assert cli("tasks", "cancel", TASK_ID, "--reason", "r").out == f"{TASK_ID} {said}\n"
        assert gateway.requests[0].body == {"reason": "r"}

    def test_waits_until_all_of_a_tree_has_stopped(
        self, cli: Cli, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("octarm.cli.commands.cancel.POLL_S", 0.0)
        since = "2026-11-21T12:00:00Z"
        child = {"task_id": "tsk_2", "arm_id": "one"}
        off = {"state": "running", "cancelling_since": since}
        over = {"state": "cancelled", "proof": "stopped_by_arm"}
        answers = [off | {"subtree": [child | off]}, over | {"subtree": [child | over]}]
        gateway.on(f"POST /v1/tasks/{TASK_ID}/cancel", *[Reply(body=body) for body in answers])

        at_once = cli("tasks", "cancel", TASK_ID)
        waited = cli("tasks", "cancel", TASK_ID, "--wait")

        assert at_once.out.startswith(f"{TASK_ID} running, cancelling since {since}\n")
        assert waited.out.startswith(f"{TASK_ID} cancelled, stopped by arm\n")
        assert "stopped by arm" in waited.out.splitlines()[-1]

    def test_does_not_wait_for_ever(self, cli: Cli, gateway: FakeGateway) -> None:
        off = {"state": "running", "cancelling_since": "2026-11-21T12:00:00Z"}
        gateway.on(f"POST /v1/tasks/{TASK_ID}/cancel", Reply(body=off))

        ran = cli("tasks", "cancel", TASK_ID, "--wait", "--timeout", "0")

        assert ran.code == 1
        assert "had not stopped" in ran.err

    def test_explains_what_a_task_waits_for(self, cli: Cli, gateway: FakeGateway) -> None:
        waiting = {"position": 3, "reason": "every arm is full", "arms": {"llm": "no free slot"}}
        placed = {"policy": "mine@aa", "reason": "cheap"}
        answer = {"task_id": TASK_ID, "state": "queued", "attempts": [], "waiting": waiting}
        answer |= placed
        gateway.on(f"GET /v1/tasks/{TASK_ID}/explain", Reply(body=answer))

        ran = cli("tasks", "explain", TASK_ID)

        assert "every arm is full" in ran.out
        assert "3 tasks" in ran.out
        assert "  llm: no free slot" in ran.out
        assert "mine@aa" not in ran.out

    def test_says_what_placed_a_task_that_has_ended(self, cli: Cli, gateway: FakeGateway) -> None:
        scores = [
            {"arm_id": "llm", "score": 0.75, "note": "cost tier 1"},
            {"arm_id": "big", "score": 0.5},
        ]
        attempts = [{"attempt": 1, "arm_id": "llm", "decision": {"scores": scores}}]
        placed = {"policy": "mine@aa", "reason": "cheap", "attempts": attempts}
        answer = {"task_id": TASK_ID, "state": "completed", "waiting": None, **placed}
        gateway.on(f"GET /v1/tasks/{TASK_ID}/explain", Reply(body=answer))

        ran = cli("tasks", "explain", TASK_ID)

        assert "mine@aa" in ran.out
        assert "cheap" in ran.out
        assert "  llm: 0.75 (cost tier 1)\n  big: 0.5\n" in ran.out


@pytest.mark.usefixtures("url")
class TestFleet:
    def test_lists_arms_by_capability(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/arms", Reply(body={"arms": [ARM]}))

        ran = cli("arms", "list", "--needs", "summarise")

        assert ran.out.splitlines()[1] == "llm\tonline\t1\t1\t2\t0.1.0\tsummarise"
        assert gateway.requests[0].query == {"capability": ["summarise"]}

    def test_shows_and_drains_one_arm(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/arms/llm", Reply(body=ARM))
        gateway.on("POST /v1/arms/llm/drain", Reply(body=ARM))

        assert "llm-1" in cli("arms", "get", "llm").out
        assert cli("arms", "drain", "llm").out == "llm drains\n"

    def test_an_arms_id_cannot_leave_its_path(self, cli: Cli, gateway: FakeGateway) -> None:
        cli("arms", "get", "../tasks?x")

        assert [r.path for r in gateway.requests] == ["/v1/arms/..%2Ftasks%3Fx"]

    def test_lists_and_shows_episodes(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/memory/episodes", Reply(body={"episodes": [EPISODE]}))
        found = {"episode": EPISODE, "source": "redis"}
        gateway.on(f"GET /v1/memory/episodes/{EPISODE_ID}", Reply(body=found))

        assert TASK_ID in cli("memory", "episodes", "--arm", "llm").out
        assert "redis" in cli("memory", "show", EPISODE_ID).out

    def test_shows_the_queue(self, cli: Cli, gateway: FakeGateway) -> None:
        view = {
            "queued": 2,
            "oldest_wait_s": 1.25,
            "policy": "priority",
            "by_tier": {"batch": 2},
            "blocked": {"no arm is capable": 2},
            "in_flight": {},
        }
        gateway.on("GET /v1/queue", Reply(body=view))

        out = cli("queue").out

        assert "batch 2" in out
        assert "  2 wait: no arm is capable" in out


def at(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}Z"


def _told(verb: str, second: int, **data: object) -> tuple[str, str, dict[str, Any]]:
    return an_event(verb, second + 1, occurred_at=at(second), **data)


A_STORY = (
    _told("accepted", 0, attempt=1),
    _told("ready", 1, attempt=1),
    _told("placed", 2, attempt=1, arm_id="llm"),
    _told("started", 3, attempt=1, arm_id="llm"),
    _told("progress", 4, attempt=1),
    _told("retried", 6, attempt=2),
    _told("ready", 7, attempt=2),
    _told("placed", 8, attempt=2, arm_id="llm"),
    _told("started", 9, attempt=2, arm_id="llm"),
    _told("failed", 10, attempt=2),
)


def a_span(name: str, span_id: str, parent: str = "", **more: object) -> str:
    row = {
        "trace_id": TRACE_ID,
        "span_id": span_id,
        "parent_id": parent,
        "name": name,
        "service": "s",
        "start_ns": int(span_id) * 1_000_000,
        "end_ns": int(span_id) * 1_000_000 + 2_000_000,
    }
    return json.dumps(row | more)


@pytest.mark.usefixtures("url")
class TestTrace:
    def test_draws_spans_of_several_files_as_one_tree(
        self, cli: Cli, gateway: FakeGateway, tmp_path: Path
    ) -> None:
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=a_task()))
        (tmp_path / "a.jsonl").write_text(a_span("gateway.submit", "1", "77") + "\n{half")
        (tmp_path / "b.jsonl").write_text(
            a_span("arm.run", "3", "2") + "\n" + a_span("orchestrator.accept", "2", "1") + "\n"
        )

        ran = cli("trace", TASK_ID, "--folder", str(tmp_path))

        names = ["gateway.submit", "orchestrator.accept", "arm.run"]
        depths = [
            line.index(name) for name, line in zip(names, ran.out.splitlines()[1:], strict=True)
        ]
        assert depths == sorted(set(depths))
        assert "2.0 ms" in ran.out

    def test_says_which_attempt_the_next_one_came_after(
        self, cli: Cli, gateway: FakeGateway, tmp_path: Path
    ) -> None:
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=a_task()))
        first = {"octarm.task.attempt": 1}
        rows = [
            a_span("arm.run", "1", "77", attributes=first, links=["77"]),
            a_span("orchestrator.retry", "2", "77", attributes=first, links=["1"]),
            a_span("orchestrator.wake", "3", "77", links=["2", "unknown"]),
        ]
        (tmp_path / "a.jsonl").write_text("\n".join(rows))

        _, run, retried, woken = cli("trace", TASK_ID, "--folder", str(tmp_path)).out.splitlines()

        assert "after" not in run
        assert "orchestrator.retry  attempt 1  after attempt 1" in retried
        assert "orchestrator.wake  after attempt 1" in woken

    def test_survives_spans_that_are_each_others_parents(self, tmp_path: Path) -> None:
        rows = [a_span("a", "1", "2"), a_span("b", "2", "1"), a_span("other", "3", trace_id="x")]
        (tmp_path / "a.jsonl").write_text("\n".join([*rows, "[]", '{"trace_id": 1}']))

        assert [span.name for span in read_spans(tmp_path, TRACE_ID)] == ["a", "b"]

    def test_steps_begin_when_those_who_took_them_say(self, cli: Cli, gateway: FakeGateway) -> None:
        began = {"attempt": 1, "placed_at": at(2), "started_at": at(3)}
        task = a_task(state="completed", created_at=at(0), attempts=[began])
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=task))
        told = [("accepted", 0), ("ready", 0), ("placed", 5), ("started", 5), ("completed", 5)]
        stream = a_stream(*(_told(verb, second, attempt=1) for verb, second in told))
        gateway.on(f"GET /v1/tasks/{TASK_ID}/events", stream)

        document = json.loads(cli("trace", TASK_ID, "--json").out)

        steps = {span["name"]: span["duration_ms"] for span in document["spans"]}
        assert steps == {
            **{"task": 5000.0, "attempt 1": 5000.0},
            **{"queued": 2000.0, "dispatched": 1000.0, "running": 2000.0},
        }

    def test_falls_back_to_the_events_of_all_attempts(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=a_task(state="failed", created_at=at(0))))
        gateway.on(f"GET /v1/tasks/{TASK_ID}/events", a_stream(*A_STORY))

        ran = cli("trace", TASK_ID)
        document = json.loads(cli("trace", TASK_ID, "--json").out)

        assert "drawn from its events" in ran.err
        shown = [
            (line.lstrip("├└│─ \xa0").split("  ")[0], line) for line in ran.out.splitlines()[1:]
        ]
        assert [name for name, _ in shown] == [
            *("task", "attempt 1", "waiting", "queued", "dispatched", "running"),
            *("attempt 2", "waiting for the next attempt", "queued", "dispatched", "running"),
        ]
        assert "3000.0 ms" in shown[5][1]
        assert document["source"] == "events"
        spans = {span["span_id"]: span for span in document["spans"]}
        assert spans["attempt-1"]["status"] == spans["attempt-2"]["status"] == "ERROR"
        assert {span["parent_id"] for span in spans.values()} == {
            *("", "task", "attempt-1", "attempt-2")
        }

    def test_shows_the_errors_of_a_task_that_is_not_sampled(
        self, cli: Cli, gateway: FakeGateway, tmp_path: Path
    ) -> None:
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=a_task(state="failed", created_at=at(0))))
        gateway.on(f"GET /v1/tasks/{TASK_ID}/events", a_stream(*A_STORY))
        about = {"octarm.trace.sampled": False, "error.type": "EXECUTION_TIMEOUT"}
        (tmp_path / "a.jsonl").write_text(a_span("arm.run", "7", "3", attributes=about))

        out = cli("trace", TASK_ID, "--folder", str(tmp_path)).out

        assert "attempt 2" in out
        assert "EXECUTION_TIMEOUT" in out

    def test_says_what_to_do_where_nothing_is_known(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on(f"GET /v1/tasks/{TASK_ID}", Reply(body=a_task()))
        gateway.on(f"GET /v1/tasks/{TASK_ID}/events", Reply(204))

        ran = cli("trace", TASK_ID)

        assert ran.code == 1
        assert "neither spans nor events" in ran.err
        assert "octarm tasks get" in ran.err


class TestHelp:
    @pytest.mark.parametrize(
        "words",
        [
            *("submit", "run", "tasks list", "tasks get", "tasks cancel", "tasks watch"),
            *("tasks explain", "arms list", "arms get", "arms drain", "memory episodes"),
            *("memory show", "queue", "trace", "db migrate", "bus provision", "version"),
            *("config show", "config set"),
        ],
    )
    def test_every_command_has_help_with_an_example(self, cli: Cli, words: str) -> None:
        ran = cli(*words.split(), "--help")

        assert ran.code == 0
        assert "Examples" in ran.out
        assert f"octarm {words}" in ran.out.split("Examples")[1]

    def test_version_in_json(self, cli: Cli) -> None:
        assert set(cli("version", "--json").json) == {"octarm", "python"}
