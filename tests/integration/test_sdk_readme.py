"""The examples of the SDK's pages, run as they stand, against services that are played."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from octarm.models import events
from octarm.sdk import Arm
from tests.support.arm_stage import a_command, a_task, an_arm_stage
from tests.support.client_stage import ClientStage, a_client_stage
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
README = ROOT / "shared/python/sdk/README.md"
FRONT_PAGE = ROOT / "README.md"
GUIDE = ROOT / "docs/guides/write-an-arm.md"


def examples(page: Path, *, first: int | None = None) -> list[dict[str, Any]]:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    made = []
    for block in blocks[:first]:
        names: dict[str, Any] = {"__name__": "readme"}
        exec(compile(block, str(page), "exec"), names)
        made.append(names)
    return made


async def test_the_arms_do_what_the_readme_says(nats_url: str) -> None:
    counter, asker = (
        next(value for value in names.values() if isinstance(value, Arm))
        for names in examples(README)[:2]
    )
    count = a_command(a_task(context={"text": "one two three"}))
    ask = a_command(a_task(budget={"max_tokens": 150}))
    async with an_arm_stage(nats_url) as stage, stage.serving(counter), stage.serving(asker):
        await wait_until(lambda: len(stage.known) == 2)
        await stage.dispatch("word-counter", count)
        await stage.dispatch("asker", ask)
        counted, asked = await stage.result_of(count), await stage.result_of(ask)

    assert counted.output == {"words": 3}
    assert (asked.output, asked.tokens_used) == ("as far as the budget went", 200)


async def test_the_arm_of_the_front_page_shouts(nats_url: str) -> None:
    (names,) = examples(FRONT_PAGE, first=1)
    hello = a_command(a_task(goal="hello"))
    async with an_arm_stage(nats_url) as stage, stage.serving(names["arm"]):
        await wait_until(lambda: "shouter" in stage.known)
        await stage.dispatch("shouter", hello)
        said = await stage.result_of(hello)

    assert said.output == {"said": "HELLO"}


async def test_the_arm_of_the_guide_counts_lines(nats_url: str) -> None:
    (names,) = examples(GUIDE)
    count = a_command(a_task(context={"text": "one\ntwo"}))
    nothing = a_command(a_task(context={"text": 2}))
    async with an_arm_stage(nats_url) as stage, stage.serving(names["arm"]):
        await wait_until(lambda: "line-counter" in stage.known)
        await stage.dispatch("line-counter", count, nothing)
        counted, refused = await stage.result_of(count), await stage.result_of(nothing)
        await wait_until(lambda: len(stage.chunks) == 2)

    assert counted.output == {"lines": 2}
    assert [chunk.text for chunk in stage.chunks] == ["1 one\n", "2 two\n"]
    assert refused.error is not None
    assert (refused.error.code, refused.retryable) == ("INVALID_REQUEST", False)


async def finish_everything(stage: ClientStage) -> None:
    done: set[str] = set()
    while True:
        for task_id in list(stage.rows):
            if task_id not in done:
                done.add(task_id)
                words = len(str(stage.rows[task_id].task.context["text"]).split())
                await stage.announce(events.TaskAccepted, task_id)
                await stage.finish(task_id, {"words": words})
        await asyncio.sleep(0.01)


async def test_the_clients_do_what_the_readme_says(
    nats_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = examples(README)
    async with a_client_stage(nats_url) as stage:
        working = asyncio.create_task(finish_everything(stage))
        await names[2]["main"](nats_url)
        await asyncio.to_thread(names[3]["script"], nats_url)
        working.cancel()

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "{'words': 3}"
    assert sorted(lines[1:4]) == ["{'words': 1}", "{'words': 2}", "{'words': 3}"]
    assert lines[4:] == ["task.accepted", "task.completed", "{'words': 2}"]
