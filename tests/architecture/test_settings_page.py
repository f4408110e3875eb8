"""Every setting stands on one page, with its default and its unit."""

import ast
import re

from octarm.models import subjects
from tests.support.settings_page import PAGE, page
from tests.support.sources import name_of, parsed, product_files

VARIABLE = re.compile(r"OCTARM_[A-Z]+(?:_[A-Z]+)*(?!\w)")
STREAMS = {name for name in vars(subjects).values() if str(name).startswith("OCTARM_")}


def test_is_what_the_settings_classes_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make schemas`"


def test_lists_every_variable_that_the_code_names() -> None:
    listed = set(VARIABLE.findall(PAGE.read_text(encoding="utf-8"))) | STREAMS
    missing = {
        f"{name_of(path)}: {variable}"
        for path in product_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for variable in VARIABLE.findall(node.value)
        if variable not in listed
    }

    assert missing == set()
