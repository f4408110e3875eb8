"""The Dockerfile's own install step, run in a clean folder with nothing but what it copies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.manifests.dockerfile import stages
from tests.support.sources import ROOT

pytestmark = pytest.mark.integration

OPT = "/opt/octarm"


def find_uv() -> str | None:
    """`uv run` names itself; otherwise it is on PATH or where the Makefile puts it."""
    beside = ROOT / ".tools/bin/uv"
    return os.environ.get("UV") or shutil.which("uv") or (str(beside) if beside.exists() else None)


def test_a_service_starts_from_what_the_dockerfile_installs(tmp_path: Path) -> None:
    uv = find_uv()
    if uv is None:
        pytest.skip("uv is neither on PATH nor in .tools")
    (build,) = [stage for stage in stages(ROOT / "deploy/Dockerfile") if stage.name == "build"]
    source, target = tmp_path / "src", tmp_path / "opt"
    for one in build.of("COPY"):
        if "from" not in one.flags:
            *names, _ = one.value.split()
            for name in names:
                copied(ROOT / name, source / name)
    own = {"UV_PROJECT_ENVIRONMENT": str(target), "UV_PYTHON": sys.executable}
    # How long it takes is no matter of the image's content.
    quick = {"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "clone"}
    environment = {**os.environ, **build.environment(), **own, **quick}
    environment |= {"SERVICE": "arm-registry", "EXTRA": ""}
    environment["PATH"] = f"{Path(uv).parent}:{os.environ['PATH']}"
    environment.pop("VIRTUAL_ENV", None)
    (run,) = build.of("RUN")

    subprocess.run(
        ["/bin/sh", "-euc", run.value.replace(OPT, str(target))],
        cwd=source,
        env=environment,
        check=True,
        timeout=280,
    )

    bare = {"PATH": "/usr/bin:/bin", "OCTARM_HTTP_PORT": "not a port"}
    started = subprocess.run(
        [target / "bin/octarm-service"], env=bare, capture_output=True, text=True, timeout=60
    )
    assert started.returncode == 78
    assert started.stderr.startswith("octarm-arm-registry: setting http_port:")
    installed = {path.name for path in target.glob("lib/python3.*/site-packages/octarm/*")}
    assert {"arm_registry", "common", "models"} <= installed
    assert not {"gateway", "cli", "orchestrator"} & installed
    found = subprocess.run([target / "bin/python", "-c", "import pytest"], capture_output=True)
    assert found.returncode != 0


def copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
    else:
        shutil.copy(source, target)
