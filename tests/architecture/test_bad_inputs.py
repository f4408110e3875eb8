"""Every row of the page of bad inputs is a test."""

import ast
import re
from collections.abc import Iterator

from tests.support.sources import ROOT, committed, parsed

PAGE = "docs/architecture/bad-inputs.md"
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


def test_every_row_of_the_page_is_a_test_and_every_marker_names_a_row() -> None:
    rows = {int(row) for row in ROW.findall((ROOT / PAGE).read_text())}

    assert rows == set(marked_rows())
