"""A process that runs and does nothing is started again."""

import sys
from pathlib import Path

import pytest

from octarm.cli.stack.keeper import Keeper, State
from octarm.cli.stack.servers import Server
from octarm.cli.stack.services import Role, ServiceRecipe
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

FAKE = Path(__file__).parents[1] / "support" / "fake_service.py"


async def test_one_that_keeps_failing_its_health_check_is_killed_and_started_again(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    lives = [True, False, True, *[False] * 6]

    async def look() -> bool:
        return lives.pop(0) if lives else True

    recipe = ServiceRecipe(Role("fake", (sys.executable, str(FAKE))), env={}, logs=tmp_path)
    keeper = Keeper(Server(recipe), changed=said.append, lives=look, look_every_s=0.01)
    await keeper.start()
    first, port = keeper.server.pid, keeper.server.port
    try:
        assert await recipe.lives(port)
        await wait_until(lambda: keeper.restarts == 1 and keeper.state is State.READY, 30)
        assert keeper.server.pid != first
        assert "fake runs but does nothing, killing it" in said
    finally:
        await keeper.stop(grace_s=5)
    assert not await recipe.lives(port)
