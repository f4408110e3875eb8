"""The local model's process: it is started, found dead, restarted and ended."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import httpx
import psutil
import pytest

from octarm.llm.local import LocalModel, NoLocalModel, default_weights
from octarm.llm.provider import Message, Request
from octarm.models.errors import Unavailable
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
REQUEST = Request(messages=(Message("user", "Say hello."),), max_output_tokens=4)


@pytest.fixture
async def model() -> AsyncGenerator[LocalModel, None]:
    """A model that has not been started."""
    made = LocalModel(default_weights(), context_tokens=512, slots=1, threads=1)
    yield made
    await made.aclose()


async def ask(model: LocalModel) -> str:
    async with aclosing(model.complete(REQUEST)) as chunks:
        return "".join([chunk.text async for chunk in chunks])


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and "local_server" in " ".join(child.cmdline())
    ]


async def test_starts_once_however_often_it_is_told_to(model: LocalModel) -> None:
    model.start()
    model.start()

    assert await ask(model)
    assert len(children()) == 1


async def test_starts_again_after_its_process_has_died(model: LocalModel) -> None:
    assert await ask(model)
    (child,) = children()
    child.kill()
    await wait_until(lambda: not children())

    assert await ask(model)


async def test_a_process_that_dies_in_the_middle_is_an_error_worth_a_retry(
    model: LocalModel,
) -> None:
    request = Request(messages=(Message("user", "Tell a story."),), max_output_tokens=250)

    with pytest.raises(Unavailable) as failed:  # noqa: PT012 - the kill comes between
        async with aclosing(model.complete(request)) as chunks:
            async for _ in chunks:
                for child in children():
                    child.kill()

    assert failed.value.retryable


async def test_answers_nobody_without_its_key(model: LocalModel) -> None:
    await ask(model)
    (child,) = children()
    (listening,) = [c for c in child.net_connections() if c.status == psutil.CONN_LISTEN]

    async with httpx.AsyncClient() as stranger:
        address = f"http://127.0.0.1:{listening.laddr.port}"
        answer = await stranger.post(f"{address}/v1/chat/completions", json={})

    assert listening.laddr.ip == "127.0.0.1"
    assert answer.status_code == 401


def test_its_process_does_not_outlive_the_arm() -> None:
    script = (
        "import time\n"
        "from octarm.llm.local import *\n"
        "m = LocalModel(default_weights(), context_tokens=512, slots=1, threads=1)\n"
        "m.start(); print(m._child.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as arm:
        assert arm.stdout is not None
        child = psutil.Process(int(arm.stdout.readline()))
        arm.kill()

    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


async def test_does_not_hand_the_arms_secrets_to_the_process(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTARM_LLM_API_KEY", "sk-very-secret")

    model.start()

    (child,) = children()
    assert "sk-very-secret" not in str(child.environ())
    assert child.environ()["PATH"] == os.environ["PATH"]


def test_refuses_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoLocalModel, match="no model file"):
        LocalModel(tmp_path / "no.gguf", context_tokens=512, slots=1, threads=1)


async def test_says_so_when_the_weights_cannot_be_loaded(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 100)
    model = LocalModel(broken, context_tokens=512, slots=1, threads=1)

    with pytest.raises(Unavailable, match="ended while loading"):
        await ask(model)
    await model.aclose()
