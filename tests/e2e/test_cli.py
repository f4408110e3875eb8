"""The command line against the whole system, as a user types it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from octarm.models.ids import is_task_id
from tests.e2e.conftest import Up
from tests.support.wait import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SHELL = ("--needs", "shell", "-c")


def document(ran: subprocess.CompletedProcess[str]) -> Any:
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def eventually(predicate: Callable[[], object]) -> None:
    asyncio.run(wait_until(predicate, timeout_s=60))


def test_runs_a_task_and_prints_only_its_output(up: Up) -> None:
    ran = up.octarm("run", "greet", *SHELL, "command=echo hello; echo oops >&2")

    assert (ran.returncode, ran.stdout) == (0, "hello\n"), ran.stderr
    assert "placed on executor" in ran.stderr
    assert "oops" in ran.stderr


def test_streams_json_lines_from_accepted_to_the_result(up: Up) -> None:
    ran = up.octarm("run", "greet", *SHELL, "command=echo hello", "--json")

    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert lines[0]["event"] == "task.accepted"
    assert [line["event"] for line in lines[-2:]] == ["task.completed", "result"]
    assert lines[-1]["data"]["output"]["stdout"] == "hello\n"
    assert ran.stderr == ""


def test_a_failed_task_is_exit_code_one_and_keeps_its_output(up: Up) -> None:
    ran = up.octarm("run", "fail", *SHELL, "command=echo partly; exit 3")

    assert (ran.returncode, ran.stdout) == (1, "partly\n")
    assert "exit code 3" in ran.stderr


def test_wrong_values_are_exit_code_three_and_leave_no_task(up: Up) -> None:
    label = ("--label", "test=refused")

    ran = up.octarm("submit", "x", "--priority", "99", *label)

    assert ran.returncode == 3
    assert "priority" in ran.stderr
    assert document(up.octarm("tasks", "list", "--label", "test=refused", "--json")) == []


def test_what_people_write_cannot_command_the_terminal(up: Up) -> None:
    hostile = "a\x1b[2Jb\u202ec"
    label = ("--label", "test=hostile")

    ran = up.octarm("run", hostile, *label, *SHELL, r"command=printf 'x\033[31m'")
    listed = up.octarm("tasks", "list", "--label", "test=hostile")
    stored = document(up.octarm("tasks", "list", "--label", "test=hostile", "--json"))

    assert ran.stdout == "x\\x1b[31m\n"
    assert "a\\x1b[2Jb\\u202ec" in listed.stdout
    assert stored[0]["task"]["goal"] == hostile


def test_shows_cancels_and_explains_a_task(up: Up) -> None:
    task_id = up.octarm("submit", "sleep", *SHELL, "command=sleep 60").stdout.strip()
    assert is_task_id(task_id)

    explained = document(up.octarm("tasks", "explain", task_id, "--json"))
    cancelled = up.octarm("tasks", "cancel", task_id, "--reason", "test", "--wait")
    watched = up.octarm("tasks", "watch", task_id)
    shown = document(up.octarm("tasks", "get", task_id, "--json"))

    assert explained["task_id"] == task_id
    assert cancelled.stdout.startswith(f"{task_id} cancelled")
    assert watched.returncode == 1
    assert shown["state"] == "cancelled"
    assert up.octarm("tasks", "cancel", task_id).stdout == cancelled.stdout


def test_an_interrupt_cancels_the_task(up: Up) -> None:
    label = "test=interrupted"
    arguments = ("run", "sleep", "--label", label, *SHELL, "command=sleep 60")
    process = subprocess.Popen(
        [sys.executable, "-m", "octarm.cli", *arguments],
        env=os.environ | {"OCTARM_URL": up.gateway},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A run in the background ignores the interrupt, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def state() -> str:
        tasks = document(up.octarm("tasks", "list", "--label", label, "--json"))
        return tasks[0]["state"] if tasks else ""

    eventually(lambda: state() == "running")
    process.send_signal(signal.SIGINT)
    process.wait(30)
    eventually(lambda: state() == "cancelled")
    assert process.returncode == 1


def test_shows_arms_queue_and_what_was_remembered(up: Up) -> None:
    task_id = up.octarm("submit", "remember", *SHELL, "command=true").stdout.strip()

    def episodes() -> Any:
        return document(up.octarm("memory", "episodes", "--task", task_id, "--json"))

    eventually(episodes)
    (episode,) = episodes()
    found = document(up.octarm("memory", "show", episode["episode_id"], "--json"))
    arms = document(up.octarm("arms", "list", "--needs", "shell", "--json"))

    assert found["episode"]["task_id"] == task_id
    assert [record["arm"]["arm_id"] for record in arms] == ["executor"]
    assert document(up.octarm("queue", "--json"))["shard"] == 0


def test_draws_the_trace_of_a_task_that_asked_for_one(up: Up) -> None:
    task_id = up.octarm("submit", "trace", "--trace", *SHELL, "command=true").stdout.strip()

    def drawn() -> str:
        return up.octarm("trace", task_id).stdout

    eventually(lambda: "memory.remember" in drawn())
    assert drawn().index("gateway.submit") < drawn().index("arm.run")


def test_migrating_and_provisioning_again_changes_nothing(up: Up) -> None:
    migrated = up.octarm("db", "migrate")
    provisioned = up.octarm("bus", "provision")

    assert migrated.returncode == 0, migrated.stderr
    assert provisioned.returncode == 0, provisioned.stderr
    assert "stream OCTARM_EVENTS updated" in provisioned.stdout


def test_verifies_the_ledger_and_has_it_mended(up: Up) -> None:
    up.octarm("run", "greet", *SHELL, "command=true")

    verified = document(up.octarm("ledger", "verify", "--live", "--wait", "10", "--json"))
    reconciled = document(up.octarm("ledger", "reconcile", "--assume-empty", "--json"))
    shown = up.octarm("ledger", "verify", "--live", "--wait", "10")

    assert verified["ok"] is True
    assert {line["invariant"]: line["status"] for line in verified["invariants"]}["I9"] == "held"
    assert verified["counts"]["tasks"] > 0
    assert isinstance(reconciled["mended"], dict)
    assert "I11\tnot checked" in shown.stdout
    assert "clean (live;" in shown.stderr


def test_names_the_gateway_that_does_not_answer(up: Up) -> None:
    ran = up.octarm("arms", "list", "--url", "http://127.0.0.1:1")

    assert (ran.returncode, ran.stdout) == (1, "")
    assert "no gateway answers at http://127.0.0.1:1" in ran.stderr


@pytest.mark.timeout(900)
def test_the_demo_does_real_work_and_leaves_nothing_behind(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("tides.txt", "odd [name]\u202e.md"):
        (texts / name).write_text("The sea rises and falls twice a day. " * 8)
    (texts / "binary").write_bytes(b"\0\1")
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    ran = subprocess.run(
        [sys.executable, "-m", "octarm.cli", "demo", "--folder", str(texts), "--json"],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)
    assert [result["words"] for result in results] == [64, 64]
    assert all(result["summary"] for result in results)
    assert "skipped binary: binary" in ran.stderr
    assert "gateway.submit" in ran.stderr
    assert [path.name for path in temporary.glob("octarm-demo-*/*")] == ["results.json"]
