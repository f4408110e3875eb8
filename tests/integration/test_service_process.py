"""The life of a process: start, refusal to start, drain, forced exit, reload (rows 29, 30)."""

import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.processes import a_python_process

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def environment(**given: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OCTARM_")}
    return kept | {"PYTHONPATH": str(ROOT), "OCTARM_SECRET": "hush"} | given


@asynccontextmanager
async def a_service(**given: str) -> AsyncGenerator[Process, None]:
    env = {k: v for k, v in environment(**given).items() if v}
    async with a_python_process("-m", "tests.support.a_service", env=env) as process:
        yield process


async def refusal(**given: str) -> str:
    async with a_service(**given) as process:
        _, error = await process.communicate()
    assert process.returncode == 78
    lines = error.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


async def running(process: Process) -> None:
    assert process.stdout is not None
    assert await process.stdout.readline() == b"running\n"


async def log_line(process: Process, event: str) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if f'"{event}"' in line.decode():
            return line.decode()
    raise AssertionError(f"it ended without {event}")


async def test_drains_at_the_first_signal_and_ends_with_zero() -> None:
    async with a_service() as process:
        await running(process)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.bad_input(30)
async def test_a_second_signal_forces_the_exit() -> None:
    async with a_service(OCTARM_INSTANCE="stubborn") as process:
        await running(process)
        process.send_signal(signal.SIGTERM)
        await log_line(process, "draining")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 130


@pytest.mark.bad_input(30)
async def test_a_bad_reload_keeps_the_old_settings_and_a_good_one_applies(
    tmp_path: Path,
) -> None:
    config = tmp_path / "octarm.toml"
    config.write_text('[toy]\nlog_level = "info"\n')
    async with a_service(OCTARM_CONFIG=str(config)) as process:
        await running(process)
        config.write_text('[toy]\nlog_level = "shouting"\n')
        process.send_signal(signal.SIGHUP)
        assert "log_level" in await log_line(process, "reload_refused")
        config.write_text('[toy]\nlog_level = "info"\ntrace_sample = 0.5\n')
        process.send_signal(signal.SIGHUP)
        reloaded = await log_line(process, "reloaded")
        assert '"log_level": "info"' in reloaded
        assert '"trace_sample": 0.5' in reloaded
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[toy]\nno_such_key = 1\n", "no_such_key"),
        ("[toy]\nhttp_port = 70000\n", "http_port"),
        ("[toy\n", "settings"),
    ],
)
@pytest.mark.bad_input(29)
async def test_refuses_a_config_it_does_not_understand(
    tmp_path: Path, content: str, named: str
) -> None:
    config = tmp_path / "octarm.toml"
    config.write_text(content)

    assert named in await refusal(OCTARM_CONFIG=str(config))


@pytest.mark.bad_input(29)
async def test_refuses_a_missing_config_file() -> None:
    assert "cannot be read" in await refusal(OCTARM_CONFIG="/nowhere/octarm.toml")


@pytest.mark.bad_input(29)
async def test_refuses_to_start_without_its_secret() -> None:
    assert "secret" in await refusal(OCTARM_SECRET="")


async def test_a_refusal_shows_no_value() -> None:
    line = await refusal(OCTARM_TRACE_EXPORT="s3cret-endpoint")

    assert "trace_export" in line
    assert "s3cret" not in line


async def test_the_environment_is_above_the_file(tmp_path: Path) -> None:
    config = tmp_path / "octarm.toml"
    config.write_text('[common]\ninstance = "from-common"\nlog_level = "shouting"\n')

    async with a_service(OCTARM_CONFIG=str(config), OCTARM_LOG_LEVEL="info") as process:
        assert "from-common" in await log_line(process, "starting")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
