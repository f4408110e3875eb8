"""`octarm policy …` against a gateway that answers from memory."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.support.cli import Cli
from tests.support.fake_gateway import NOON, FakeGateway, Reply, a_fake_gateway, a_problem

DIGEST = "ab" * 32
SOURCE = "def schedule(ctx):\n    return []\n"
POLICY = {
    "digest": DIGEST,
    "name": "mine",
    "kind": "starlark",
    "size_bytes": 34,
    "created_at": NOON,
    "created_by": "ops",
    "note": "for \x1b[31m tests",
    "state": "live",
}
DEPLOYMENT = {
    "digest": DIGEST,
    "replaces": None,
    "at": NOON,
    "by": "ops",
    "because": "deployed",
}
TRACEBACK = "Traceback (most recent call last):\n  * policy.star:3, in schedule\nerror: no \x1b[2J"
PROBLEM = {"severity": "error", "message": TRACEBACK, "line": 3, "hint": "right it"}
WAITS = dict.fromkeys(("arrived", "completed", "failed", "rejected", "overdue", "starved"), 1) | {
    "wait_p50_s": 0.5,
    "wait_p95_s": 0.5,
    "wait_max_s": 0.5,
    "deadline_hit_rate": None,
}
OUTCOME: dict[str, Any] = {
    "policy": "mine@abababab",
    "load": "the record",
    "seed": 1,
    "makespan_s": 9.5,
    "placed": 1,
    "retried": 0,
    "left": 0,
    "cycles": 1,
    "promoted": 0,
    "utilisation": 0.5,
    "cost": 1.0,
    "fairness": 1.0,
    "dropped_actions": {},
    "script_errors": 0,
    "first_error": "",
    "total": WAITS,
    "by_tier": {"interactive": WAITS},
    "by_tenant": {"default": WAITS},
    "by_arm": {},
    "samples": {"time_s": [0.0], "queued": [0.0], "slots_used": [0.0]},
}


@pytest.fixture
def gateway(cli: Cli) -> Iterator[FakeGateway]:
    with a_fake_gateway() as fake:
        cli.env(OCTARM_URL=fake.url)
        yield fake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Cost_First.star"
    path.write_text(SOURCE)
    return path


def test_saves_a_file_under_its_name(cli: Cli, gateway: FakeGateway, file: Path) -> None:
    saved = {"policy": POLICY, "created": True, "problems": []}
    gateway.on("POST /v1/policies", Reply(201, saved))

    ran = cli("policy", "save", str(file), "--note", "first")

    assert (ran.code, ran.out) == (0, f"mine\t{DIGEST}\tsaved\n")
    assert gateway.requests[0].body == {
        "name": "cost-first",
        "kind": "starlark",
        "source": SOURCE,
        "note": "first",
    }
    assert cli("policy", "save", str(file), "--json").json == saved


def test_shows_the_lines_of_a_source_that_was_refused(
    cli: Cli, gateway: FakeGateway, file: Path
) -> None:
    errors = [{"field": "source.3", "message": TRACEBACK}]
    refusal = a_problem(422, "INVALID_POLICY", "validation", "line 3: no", errors=errors)
    gateway.on("POST /v1/policies", refusal)

    ran = cli("policy", "save", str(file))

    assert ran.code == 3
    assert f"{file}:3: error: Traceback" in ran.err
    assert "\n  * policy.star:3, in schedule\n" in ran.err
    assert "\x1b[2J" not in ran.err
    assert "was not saved: 1 error [INVALID_POLICY]" in ran.err
    assert '"INVALID_POLICY"' in cli("policy", "save", str(file), "--json").err


def test_validates(cli: Cli, gateway: FakeGateway, file: Path) -> None:
    gateway.on(
        "POST /v1/policies/validate",
        Reply(body={"digest": DIGEST, "problems": [PROBLEM, PROBLEM, PROBLEM]}),
        Reply(body={"digest": DIGEST, "problems": []}),
    )

    wrong, well = cli("policy", "validate", str(file)), cli("policy", "validate", str(file))

    assert (wrong.code, well.code) == (3, 0)
    assert f"{file}:3: error: Traceback" in wrong.err
    assert "hint: right it" in wrong.err
    assert wrong.err.count("Traceback") == 1
    assert "and 2 more of this line" in wrong.err
    assert well.out == f"{file} is well\t{DIGEST}\n"


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("mine.py", b"x", "ends in .star"),
        ("none.star", None, "cannot be read"),
        ("latin.star", b"\xe4", "is not UTF-8: byte 0"),
        ("empty.yaml", b"", "has 0 characters"),
        ("huge.star", b"x" * 70_000, "has 70000 characters"),
    ],
)
def test_files_that_are_no_policies(
    cli: Cli, gateway: FakeGateway, tmp_path: Path, name: str, body: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if body is not None:
        path.write_bytes(body)

    ran = cli("policy", "validate", str(path))

    assert ran.code == 3
    assert says in ran.err
    assert gateway.requests == []


def test_lists_and_says_which_decides(cli: Cli, gateway: FakeGateway) -> None:
    found = {"policies": [POLICY], "deployments": [DEPLOYMENT]}
    gateway.on(
        "GET /v1/policies", Reply(body=found), Reply(body={"policies": [], "deployments": []})
    )

    ran, empty = cli("policy", "list", "--name", "mine"), cli("policy", "list")

    assert gateway.requests[0].query == {"name": ["mine"]}
    assert "mine\tabababababab\tlive\tstarlark\t34" in ran.out
    assert "\x1b[31m" not in ran.out
    assert f"{DIGEST} decides" in ran.err
    assert "the scheduler's own policy decides" in empty.err


def test_prints_a_source_so_that_it_can_be_piped(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on("GET /v1/policies/mine", Reply(body=POLICY | {"source": SOURCE}))

    ran = cli("policy", "get", "mine")

    assert ran.out == SOURCE
    assert f"digest: {DIGEST}" in ran.err


@pytest.mark.parametrize(
    ("words", "asked", "out"),
    [
        (("deploy", "mine"), "POST /v1/policies/mine/deploy", f"{DIGEST} decides\n"),
        (("rollback",), "POST /v1/policies/rollback", f"{DIGEST} decides\n"),
        (("shadow", "mine"), "POST /v1/policies/mine/shadow", f"mine shadows\t{DIGEST}\n"),
        (("shadow", "--off"), "POST /v1/policies/end-shadow", "no shadow\n"),
        (("delete", "mine"), "DELETE /v1/policies/mine", "mine is gone\n"),
        (("deploy", "../x"), "POST /v1/policies/..%2Fx/deploy", f"{DIGEST} decides\n"),
    ],
)
def test_changes(
    cli: Cli, gateway: FakeGateway, words: tuple[str, ...], asked: str, out: str
) -> None:
    answer = {"deployment": DEPLOYMENT, "shadow": DIGEST, "digest": DIGEST}
    gateway.on(asked, Reply(body=answer))

    assert cli("policy", *words).out == out
    assert cli("policy", *words, "--json").json == answer


def test_a_rollback_is_never_sent_twice(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on("POST /v1/policies/rollback", Reply(lost=True))

    assert cli("policy", "rollback").code == 1
    assert len(gateway.requests) == 1


def test_a_shadow_is_named_or_ended(cli: Cli, gateway: FakeGateway) -> None:
    assert cli("policy", "shadow", "mine", "--off").code == 3
    assert gateway.requests == []


class TestDifferences:
    FOUND: ClassVar[dict[str, Any]] = {
        "shadow": f"mine@{DIGEST}",
        "cycles": 7,
        "equal": 5,
        "failed": {"timeout": 1},
        "placed_live": 9,
        "placed_shadow": 8,
        "moved": 1,
        "only_live": 1,
        "only_shadow": 0,
        "rejected": 0,
        "differences": [
            {
                "at": "2026-11-21T12:00:01Z",
                "task_id": "tsk_01",
                "live": "a",
                "shadow": "(waits)",
                "reason": "too dear",
            }
        ],
    }

    def test_shows_where_the_shadow_differs(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/policies/shadow/differences", Reply(body=self.FOUND))

        ran = cli("policy", "shadow", "--shard", "1")

        assert gateway.requests[0].query == {"shard": ["1"]}
        assert f"mine@{DIGEST}" in ran.out
        assert "7, 5 of them the same" in ran.out
        assert "1 timeout" in ran.out
        assert "12:00:01\ttsk_01\ta\t(waits)\ttoo dear" in ran.out
        assert cli("policy", "shadow", "--json").json == self.FOUND

    def test_says_that_nothing_shadows(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on("GET /v1/policies/shadow/differences", Reply(body=self.FOUND | {"shadow": ""}))

        ran = cli("policy", "shadow")

        assert (ran.out, ran.code) == ("", 0)
        assert "nothing shadows" in ran.err


class TestSimulating:
    def test_compares_with_what_decides_since_a_time(self, cli: Cli, gateway: FakeGateway) -> None:
        found = {"outcomes": [OUTCOME], "tasks": 1200, "cut": True}
        gateway.on("POST /v1/policies/simulate", Reply(body=found))

        ran = cli("policy", "simulate", "mine", "fair_share", "--since", "2h")

        body = gateway.requests[0].body
        assert (body["refs"], body["draft"]) == (["live", "mine", "fair-share"], None)
        since = datetime.fromisoformat(body["since"])
        assert timedelta(hours=1.9) < datetime.now(UTC) - since < timedelta(hours=2.1)
        assert "mine@abababab" in ran.out
        assert "1,200 recorded tasks; more was recorded" in ran.err

    def test_tries_a_file_on_a_load(
        self, cli: Cli, gateway: FakeGateway, file: Path, tmp_path: Path
    ) -> None:
        load = tmp_path / "load.toml"
        load.write_text("duration_s = 1")
        gateway.on(
            "POST /v1/policies/simulate",
            Reply(body={"outcomes": [OUTCOME], "tasks": 0, "cut": False}),
        )

        ran = cli("policy", "simulate", str(file), "--against", "", "--load", str(load), "--json")

        body = gateway.requests[0].body
        assert ran.json["outcomes"] == [OUTCOME]
        assert (body["refs"], body["load"]) == ([], "duration_s = 1")
        assert body["draft"] == {"kind": "starlark", "source": SOURCE}

    @pytest.mark.parametrize(
        ("more", "says"), [(("--since", "soon"), "is no time"), (("--load", "no.toml"), "read")]
    )
    def test_refuses_what_it_cannot_ask(
        self, cli: Cli, gateway: FakeGateway, more: tuple[str, str], says: str
    ) -> None:
        ran = cli("policy", "simulate", "mine", *more)

        assert ran.code == 3
        assert says in ran.err
        assert gateway.requests == []

    def test_takes_one_file(self, cli: Cli, gateway: FakeGateway, file: Path) -> None:
        assert "two files" in cli("policy", "simulate", str(file), str(file)).err
        assert gateway.requests == []

    def test_is_not_begun_again_when_it_took_too_long(self, cli: Cli, gateway: FakeGateway) -> None:
        gateway.on(
            "POST /v1/policies/simulate", a_problem(504, "DEADLINE_EXCEEDED", "timeout", "long")
        )

        assert cli("policy", "simulate", "mine").code == 1
        assert len(gateway.requests) == 1
