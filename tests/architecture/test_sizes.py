"""Nothing grows past what one can read in one go.

A thing that must be larger is named in EXCEPTIONS with its own limit and the reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import committed, name_of, parsed, product_files

MODULE_LINES, TEST_LINES, FUNCTION_LINES, CLASS_LINES, POSITIONALS = 300, 500, 40, 200, 4
SERVICE_LINES = 1_500
SERVICES = {
    # It speaks HTTP for every other service, holds the dead letters' desk, and bounds what any
    # client may cost.
    "gateway": 2_600,
    # Queue, placing and failover are one matter; it answers for the policies too, which are a
    # member of their own.
    "scheduler": 2_600,
    "arm-registry": SERVICE_LINES,
    # Two kinds of memory, each with a store that is searched and a way in that loses nothing; what
    # is told of them, how they age and are erased, and three makers of vectors.
    "memory": 5_300,
    # It accepts, records, ends, retries, tells and repairs; the ledger is a member of its own.
    "orchestrator": 2_550,
}
EXCEPTIONS: dict[str, int] = {
    # Wiring in the order of opening, one line a part; cut in two it would be harder to check.
    "services/orchestrator/src/octarm/orchestrator/__main__.py:_serve": 74,
    # All that it speaks for, one port after the other.
    "services/gateway/src/octarm/gateway/usecases/ports.py": 310,
    # A list of messages, one after the other; nobody reads it in one go.
    "shared/python/models/src/octarm/models/hot.py": 305,
    "shared/python/models/src/octarm/models/subjects.py": 370,
    "shared/python/sdk/src/octarm/sdk/instance.py:Instance.__init__": 60,
    # One method for each thing that a handler may do.
    "shared/python/sdk/src/octarm/sdk/context.py:Context": 210,
    # One state machine each: what is pulled, held, settled and handed back.
    "shared/python/common/src/octarm/common/bus/runner.py:PullRunner": 245,
    "shared/python/sdk/src/octarm/sdk/worker.py": 320,
    "shared/python/sdk/src/octarm/sdk/worker.py:Worker": 255,
    # Commands: Typer calls them with names, and their parameters are what the user may write.
    "cli/src/octarm/cli/commands/submit.py:submit()": 5,
    "cli/src/octarm/cli/commands/tasks.py:list_tasks()": 5,
    "cli/src/octarm/cli/demo/command.py:demo()": 5,
    # pydantic-settings calls it with these five.
    "shared/python/common/src/octarm/common/service.py:"
    "ServiceSettings.settings_customise_sources()": 5,
}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def test_modules_are_short() -> None:
    found = {
        name: length
        for path in committed("*.py")
        if (length := path.read_text(encoding="utf-8").count("\n"))
        > EXCEPTIONS.get(name := name_of(path), _module_limit(name))
    }

    assert found == {}


def test_functions_and_classes_are_short() -> None:
    found = {
        name: length
        for name, node in _definitions(product_files())
        if (length := _length(node)) > EXCEPTIONS.get(name, _limit(node))
    }

    assert found == {}


def test_at_most_four_parameters_are_positional() -> None:
    found = {
        name: count
        for name, node in _definitions(product_files())
        if not isinstance(node, ast.ClassDef)
        and not _called_by_a_framework(node)
        and (count := _positionals(node)) > EXCEPTIONS.get(f"{name}()", POSITIONALS)
    }

    assert found == {}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_small(service: str) -> None:
    lines = sum(_code_lines(path) for path in committed(f"services/{service}/src/*.py"))

    assert 0 < lines <= SERVICES[service]


def test_every_exception_is_still_needed() -> None:
    needed = {
        name for name, node in _definitions(product_files()) if _length(node) > _limit(node)
    } | {
        f"{name}()"
        for name, node in _definitions(product_files())
        if not isinstance(node, ast.ClassDef) and _positionals(node) > POSITIONALS
    }
    needed |= {
        name_of(path)
        for path in committed("*.py")
        if path.read_text(encoding="utf-8").count("\n") > _module_limit(name_of(path))
    }

    assert EXCEPTIONS.keys() - needed == set()


def _module_limit(name: str) -> int:
    return TEST_LINES if name.startswith("tests/") else MODULE_LINES


def _code_lines(path: Path) -> int:
    """Count the lines that are neither blank, nor comment, nor docstring."""
    text = path.read_text(encoding="utf-8").splitlines()
    said = {
        line
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return sum(
        1
        for number, line in enumerate(text, 1)
        if number not in said and line.strip() and not line.strip().startswith("#")
    )


def _definitions(paths: tuple[Path, ...]) -> Iterator[tuple[str, Definition]]:
    """Give every function and class as `file:Class.function`."""
    for path in paths:
        yield from _inside(parsed(path), f"{name_of(path)}:")


def _inside(tree: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            yield f"{prefix}{node.name}", node
            yield from _inside(node, f"{prefix}{node.name}.")
        else:
            yield from _inside(node, prefix)


def _length(node: Definition) -> int:
    """Count the lines; a function within a function counts for itself alone."""
    length = _span(node)
    if isinstance(node, ast.ClassDef):
        return length
    return length - sum(_span(inner) for inner in node.body if isinstance(inner, Definition))


def _span(node: Definition) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _limit(node: Definition) -> int:
    return CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES


def _called_by_a_framework(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell a command or route: its decorator calls it, with names."""
    return any(isinstance(decorator, ast.Call) for decorator in node.decorator_list)


def _positionals(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return len([name for name in names if name not in ("self", "cls")])
