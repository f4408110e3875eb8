import ast
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from octarm.common import failpoints
from octarm.common.failpoints import NAMES, VARIABLE, ByName, FailpointHit, InFolder, parse_action
from octarm.models.errors import OctarmError
from tests.support.sources import parsed, product_files

REACH = "from octarm.common.failpoints import begin, failpoint; begin('toy'); "


def reach(spec: str, code: str) -> "subprocess.CompletedProcess[str]":
    """Run a line in a process that was started with the variable set."""
    return subprocess.run(
        [sys.executable, "-c", REACH + code],
        env={VARIABLE: spec},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def test_each_name_is_a_line_of_the_product() -> None:
    reached = [
        node.args[0].value
        for path in product_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "failpoint"
        and isinstance(node.args[0], ast.Constant)
    ]

    assert sorted(reached, key=str) == sorted(NAMES)


def test_is_an_empty_function_when_the_variable_is_not_set() -> None:
    assert failpoints.failpoint is failpoints._off


def test_exits_as_by_kill_9_at_the_hit_that_was_named() -> None:
    done = reach("run_received:exit@3", "[print(n) or failpoint('run_received') for n in range(9)]")

    assert done.returncode == -signal.SIGKILL
    assert "failpoint run_received" in done.stderr


def test_other_lines_go_on() -> None:
    done = reach("run_received:exit", "failpoint('arm_running'); print('alive')")

    assert (done.returncode, done.stdout) == (0, "alive\n")


@pytest.mark.parametrize("spec", ["no_such_line:exit", "run_received", "run_received:explode"])
def test_what_does_not_exist_refuses_to_start_with_one_line(spec: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "octarm.scheduler"],
        env={VARIABLE: spec},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert done.returncode == 78
    assert len(done.stderr.splitlines()) == 1
    assert VARIABLE in done.stderr


def test_raises_and_sleeps() -> None:
    point = ByName("ready_received:raise, run_received:sleep=0.05@2")
    point("run_received")
    began = time.monotonic()
    point("run_received")

    assert time.monotonic() - began >= 0.05
    with pytest.raises(FailpointHit):
        point("ready_received")
    point("ready_received")


def test_a_file_makes_a_running_process_fail_once(tmp_path: Path) -> None:
    point = InFolder(tmp_path)
    point("run_received")
    file = tmp_path / f"{failpoints._process}.run_received"
    file.write_text("raise@2")
    point("run_received")
    point("arm_running")
    with pytest.raises(FailpointHit):
        point("run_received")

    assert not file.exists()
    point("run_received")


@pytest.mark.parametrize("text", ["", "exit@x", "sleep", "sleep=x", "exit=2", "boom"])
def test_refuses_an_action_that_it_does_not_know(text: str) -> None:
    with pytest.raises(OctarmError, match="is no action"):
        parse_action(text)
