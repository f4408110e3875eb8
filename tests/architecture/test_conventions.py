"""Rules of style that a reader would otherwise have to look for."""

import ast
import re
from pathlib import Path

from octarm.common.telemetry.metrics import METRICS
from octarm.models.subjects import PREFIX
from tests.support.sources import committed, name_of, parsed, product_files

SUBJECTS = "shared/python/models/src/octarm/models/subjects.py"
METRIC_LIST = "shared/python/common/src/octarm/common/telemetry/metrics.py"
# The package of the Protocol Buffers and the bus's grammar in words: neither is a subject.
NO_SUBJECTS = {
    "shared/python/models/src/octarm/models/schemas/proto.py",
    "shared/python/models/src/octarm/models/schemas/asyncapi.py",
}
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "base.py", "constants.py", "common.py", "misc.py"}
SUFFIXES = re.compile(r"^(I[A-Z][a-z]\w*|Abstract\w+|Base[A-Z]\w+|\w+(Manager|Impl|Helper))$")
# One broad handler is allowed where a message, a request or a callback must not end its loop.
BROAD = {
    "shared/python/common/src/octarm/common/bus/wire.py": "for the connection, which goes on",
    "shared/python/common/src/octarm/common/storage/redis_link.py": "for the calls behind it",
    "shared/python/common/src/octarm/common/bus/runner.py": "a bug in a handler: retry, then DLQ",
    "shared/python/common/src/octarm/common/bus/requests.py": "a bug in a handler: INTERNAL",
    "shared/python/common/src/octarm/common/storage/batcher.py": "handed on to every caller",
    "shared/python/sdk/src/octarm/sdk/worker.py": "a handler's error is its attempt's failure",
    "shared/python/sdk/src/octarm/sdk/threads.py": "handed on to the event loop",
}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
# Spelled in parts, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
MACHINE = re.compile(r"(?<![\w.$}])/(work|ro" + r"ot|home)/\w+")
TEXT = ("*.py", "*.md", "*.toml", "*.yaml", "*.yml", "*.json", "*.sh", "*.sql", "*.proto")


def test_only_one_module_spells_a_subject() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in product_files()
        if name_of(path) not in {SUBJECTS, *NO_SUBJECTS}
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and f"{PREFIX}." in node.value
        and not _is_docstring(node, parsed(path))
    ]

    assert found == []


def test_every_metric_is_measured() -> None:
    said = "\n".join(_text(path) for path in product_files() if name_of(path) != METRIC_LIST)

    assert [metric.name for metric in METRICS if f'"{metric.name}"' not in said] == []


def test_every_link_inside_the_repository_resolves() -> None:
    broken = [
        f"{name_of(page)}: {target}"
        for page in committed("*.md")
        for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
        if not re.match(r"[a-z]+:|#", target)
        and not (page.parent / target.partition("#")[0]).exists()
    ]

    assert broken == []


def test_nothing_is_left_to_be_done_later() -> None:
    assert _matches(UNFINISHED) == []


def test_no_file_names_a_place_on_one_machine() -> None:
    assert _matches(MACHINE) == []


def test_modules_are_named_for_what_they_do() -> None:
    assert [name_of(path) for path in product_files() if path.name in FORBIDDEN_NAMES] == []


def test_classes_are_named_for_their_role() -> None:
    found = [
        f"{name_of(path)}:{node.name}"
        for path in product_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef) and SUFFIXES.match(node.name)
    ]

    assert found == []


def test_no_portion_of_the_namespace_takes_it_over() -> None:
    assert [name_of(path) for path in committed("*/src/octarm/__init__.py")] == []


def test_exceptions_are_caught_by_name() -> None:
    found = {
        name_of(path)
        for path in product_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node)
    }

    assert found - BROAD.keys() == set()


def test_every_member_says_that_it_is_typed() -> None:
    packages = {path.parent for path in committed("*/src/octarm/*/__init__.py")}
    members = [package for package in packages if package.parent.name == "octarm"]

    assert [name_of(one) for one in members if not (one / "py.typed").exists()] == []


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Tell whether it takes every error and does not raise it again."""
    names = (
        {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
        if (handler.type)
        else {"BaseException"}
    )
    raises = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
    return bool(names & {"Exception", "BaseException"}) and not raises


def _is_docstring(node: ast.Constant, tree: ast.Module) -> bool:
    return any(isinstance(one, ast.Expr) and one.value is node for one in ast.walk(tree))


def _matches(pattern: "re.Pattern[str]") -> list[str]:
    return [
        f"{name_of(path)}: {found[0]}"
        for path in committed(*TEXT, "Makefile")
        if (found := pattern.search(_text(path)))
    ]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
