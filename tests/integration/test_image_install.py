"""The Dockerfile's own steps, run in clean folders with nothing but what it copies."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from octarm.cli.stack.ports import free_port
from octarm.common.bus.connection import connected_to
from octarm.common.bus.topology import provision
from tests.support.manifests.dockerfile import stages
from tests.support.sources import ROOT
from tests.support.wait import wait_until
from tests.unit.deploy.test_dockerfile import IMAGES

pytestmark = pytest.mark.integration

OPT = "/opt/octarm"
STAGES = {stage.name: stage for stage in stages(ROOT / "deploy/Dockerfile")}
MODULES = {service.replace("-", "_") for service in IMAGES}
EX_CONFIG = 78


def find_uv() -> str | None:
    """`uv run` names itself; otherwise it is on PATH or where the Makefile puts it."""
    beside = ROOT / ".tools/bin/uv"
    return os.environ.get("UV") or shutil.which("uv") or (str(beside) if beside.exists() else None)


@dataclass(frozen=True)
class Image:
    """What would be in an image, below another folder than /opt/octarm."""

    folder: Path

    @property
    def start(self) -> str:
        return str(self.folder / "bin/octarm-service")

    def environment(self, **settings: str) -> dict[str, str]:
        """What the image sets, and what it is told; nothing of ours."""
        own = {name: value.replace(OPT, str(self.folder)) for name, value in _set().items()}
        return {**own, **settings}

    def packages(self) -> set[str]:
        """Our own packages."""
        return {path.name for path in self.folder.glob("lib/python3.*/site-packages/octarm/*")}


def _set() -> dict[str, str]:
    return STAGES["runtime"].environment()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Dockerfile copies, and nothing else."""
    folder = tmp_path_factory.mktemp("image") / "src"
    for one in STAGES["build"].of("COPY"):
        if "from" not in one.flags:
            *names, _ = one.value.split()
            for name in names:
                _copied(ROOT / name, folder / name.rstrip("/"))
    return folder


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
    else:
        shutil.copy(source, target)


def installed(source: Path, target: Path, service: str) -> Image:
    """Run the step that installs, for one service, into a folder that is not there yet."""
    uv = find_uv()
    if uv is None:
        pytest.skip("uv is neither on PATH nor in .tools")
    build = STAGES["build"]
    own = {"UV_PROJECT_ENVIRONMENT": str(target), "UV_PYTHON": sys.executable}
    # How long it takes is no matter of the image's content.
    quick = {"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "clone"}
    environment = {**os.environ, **build.environment(), **own, **quick}
    environment |= {"SERVICE": service, "EXTRA": ""}
    environment["PATH"] = f"{Path(uv).parent}:{os.environ['PATH']}"
    environment.pop("VIRTUAL_ENV", None)
    (run,) = build.of("RUN")
    (shell,) = build.of("SHELL")
    subprocess.run(
        [*json.loads(shell.value), run.value.replace(OPT, str(target))],
        cwd=source,
        env=environment,
        check=True,
        timeout=280,
    )
    return Image(target)


@pytest.mark.parametrize("service", IMAGES)
def test_each_starts_from_what_is_installed_for_it(
    service: str, source: Path, tmp_path: Path
) -> None:
    image = installed(source, tmp_path / "opt", service)
    arguments = ["version"] if service == "cli" else []

    started = subprocess.run(
        [image.start, *arguments],
        env=image.environment(OCTARM_HTTP_PORT="not a port", HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=120,
    )

    if service == "cli":
        assert (started.returncode, started.stderr) == (0, "")
    else:
        assert started.returncode == EX_CONFIG, started.stderr
        assert started.stderr.startswith(f"octarm-{service}: "), started.stderr
        others = MODULES - {service.replace("-", "_")}
        assert image.packages() & MODULES == MODULES - others
    assert {"common", "models"} <= image.packages()
    python = str(image.folder / "bin/python")
    found = subprocess.run([python, "-c", "import pytest"], capture_output=True, timeout=60)
    assert found.returncode != 0
    shutil.rmtree(image.folder)


async def test_its_own_healthcheck_follows_the_process(
    source: Path, tmp_path: Path, nats_url: str
) -> None:
    async with connected_to(nats_url, name="test") as nc:
        await provision(nc.jetstream())
    image = await asyncio.to_thread(installed, source, tmp_path / "opt", "arm-registry")
    (health,) = STAGES["runtime"].of("HEALTHCHECK")
    command = [
        part.replace(OPT, str(image.folder))
        for part in json.loads(health.value.partition("CMD")[2])
    ]
    settings = {"OCTARM_NATS_URL": nats_url, "OCTARM_HTTP_PORT": str(free_port())}
    environment = image.environment(OCTARM_HTTP_HOST="127.0.0.1", **settings)

    async def healthy() -> bool:
        asked = await asyncio.create_subprocess_exec(
            *command, env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        return await asked.wait() == 0

    assert not await healthy()
    process = await asyncio.create_subprocess_exec(
        image.start,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await wait_until(healthy, 120)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not await healthy()
