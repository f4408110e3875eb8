"""Every row of the page of bad inputs is a test."""

import ast
import re
from collections.abc import Iterator

from tests.support.sources import ROOT, committed, parsed

PAGE = "docs/architecture/bad-inputs.md"
# Tasks, plans, budgets, results, heartbeats and messages: whoever takes a row away takes a promise.
OF_THE_TASK_FLOW = frozenset({*range(1, 16), 20, 26, 32})
ROW = re.compile(r"^\| (\d+) \|", re.MULTILINE)


def marked_rows() -> Iterator[int]:
    """The rows that the markers of all tests name."""
    for path in committed("*.py"):
        if not path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(parsed(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "bad_input"
            ):
                yield from (int(ast.unparse(row)) for row in node.args)


def test_what_may_come_with_a_task_a_result_or_a_message_is_on_the_page() -> None:
    rows = {int(row) for row in ROW.findall((ROOT / PAGE).read_text())}

    assert rows >= OF_THE_TASK_FLOW


def test_every_row_of_the_page_is_a_test_and_every_marker_names_a_row() -> None:
    rows = {int(row) for row in ROW.findall((ROOT / PAGE).read_text())}

    assert rows == set(marked_rows())
