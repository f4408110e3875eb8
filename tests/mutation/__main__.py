"""Change the rules of the ledger one by one, and see that a test notices: `make mutants`.

mutmut does it, in a folder of its own: the members lie in one `src` there, as it expects them.
Exit code 0: at least 85 % of the changes were noticed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".mutmut"
LEAST: Final = 0.85
MEMBERS: Final = ("shared/python/ledger/src", "services/orchestrator/src")
# What is changed, and the tests that are to notice.
RULES: Final = {
    "budgets": ("octarm/ledger/domain/budgets.py", ("unit/ledger/test_budgets.py",)),
    "lifecycle": ("octarm/ledger/domain/lifecycle.py", ("unit/ledger/test_domain.py",)),
    "tasks": (
        "octarm/ledger/domain/tasks.py",
        ("unit/ledger/test_domain.py", "unit/ledger/test_tenants.py"),
    ),
    "changes": ("octarm/ledger/domain/changes.py", ("unit/ledger/test_domain.py",)),
    "plans": ("octarm/ledger/domain/plans.py", ("unit/ledger/test_plans.py",)),
    "tenants": ("octarm/ledger/domain/tenants.py", ("unit/ledger/test_tenants.py",)),
    "retries": (
        "octarm/orchestrator/domain/retries.py",
        ("unit/ledger/test_domain.py", "unit/orchestrator/test_retries.py"),
    ),
    "leases": (
        "octarm/orchestrator/usecases/leases.py",
        ("unit/orchestrator/test_leases.py",),
    ),
}
# The tests run in one process again and again, and must find the same each time.
CONFTEST: Final = """
from hypothesis import HealthCheck, settings

settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutants")
"""
CONFIG: Final = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {modules}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:randomly", "-p", "no:cacheprovider"]
use_git_change_detection = false

[tool.pytest.ini_options]
pythonpath = ["src", "."]
addopts = ["--import-mode=importlib"]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
markers = ["bad_input", "integration"]
"""


def lay_out(names: list[str]) -> None:
    """Put members, tests and settings into the folder; what it found before is forgotten."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for member in MEMBERS:
        shutil.copytree(ROOT / member, FOLDER / "src", dirs_exist_ok=True)
    tests = sorted({f"tests/{test}" for name in names for test in RULES[name][1]})
    shutil.copytree(ROOT / "tests/support", FOLDER / "tests/support", dirs_exist_ok=True)
    for test in tests:
        (FOLDER / test).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / test, FOLDER / test)
    (FOLDER / "tests/conftest.py").write_text(CONFTEST)
    modules = [f"src/{RULES[name][0]}" for name in names]
    config = CONFIG.format(modules=json.dumps(modules), tests=json.dumps(tests))
    (FOLDER / "pyproject.toml").write_text(config)


def told(names: list[str]) -> bool:
    """Print the share of each module and what survived; gives whether it is enough."""
    noticed = made = 0
    for name in names:
        found = FOLDER / f"mutants/src/{RULES[name][0]}.meta"
        codes = json.loads(found.read_text())["exit_code_by_key"]
        alive = sorted(key for key, code in codes.items() if code in (None, 0, 5, 33))
        noticed, made = noticed + len(codes) - len(alive), made + len(codes)
        share = 1 - len(alive) / len(codes)
        print(f"{name:10} {len(codes) - len(alive):4} of {len(codes):4} noticed = {share:.1%}")
        for key in alive:
            print(f"           {key}")
    print(f"{'all':10} {noticed:4} of {made:4} noticed = {noticed / made:.1%}")
    return noticed >= LEAST * made


def main() -> int:
    """Run it from the command line; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RULES)}; all by default")
    parser.add_argument("--minutes", type=float, default=20, help="give up after so long")
    given = parser.parse_args()
    names = given.names or list(RULES)
    lay_out(names)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count())]
    subprocess.run(command, cwd=FOLDER, check=True, timeout=given.minutes * 60, stdout=sys.stderr)
    return 0 if told(names) else 1


if __name__ == "__main__":
    sys.exit(main())
