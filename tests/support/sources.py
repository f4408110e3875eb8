"""The files of this repository, as git knows them."""

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def committed(*patterns: str) -> tuple[Path, ...]:
    """Give the files that are, or are about to be, committed; patterns are git's."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return tuple(sorted(ROOT / name for name in names.split("\0") if (ROOT / name).is_file()))


def name_of(path: Path) -> str:
    """Give the path inside the repository."""
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    """Give the syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def product_files() -> tuple[Path, ...]:
    """Give the Python files of the members, without tests and benchmarks."""
    return committed("*/src/*.py")
