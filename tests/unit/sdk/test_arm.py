"""What may be declared as an arm, and what as its handler."""

from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from octarm.models.contracts import TaskContract
from octarm.models.errors import InvalidRequest
from octarm.sdk import Arm, Context


def an_arm() -> Arm:
    return Arm("worker", capabilities={"work"})


class TestDeclaring:
    def test_says_which_field_is_wrong(self) -> None:
        with pytest.raises(InvalidRequest, match="arm_id") as refusal:
            Arm("Not A Name", capabilities={"work"})

        assert refusal.value.errors is not None

    def test_is_named_after_its_id(self) -> None:
        assert (an_arm().arm_id, an_arm().capability.name) == ("worker", "worker")

    def test_does_not_serve_without_a_handler(self) -> None:
        with pytest.raises(TypeError, match=r"@arm\.run"):
            an_arm().main()


class TestHandlers:
    def test_a_decorated_handler_stays_what_it_was(self) -> None:
        async def work(task: TaskContract) -> None: ...

        assert an_arm().run(work) is work

    def test_takes_callables_of_a_task_with_or_without_a_context(self) -> None:
        class Worker:
            async def __call__(self, task: TaskContract, ctx: Context) -> None: ...

        for handler in (Worker(), lambda task: None, lambda task, ctx, tone="dry": None, print):
            an_arm().run(handler)

    @pytest.mark.parametrize(
        "handler",
        [lambda: None, lambda task, ctx, third: None, lambda task, *, needed: None],
    )
    def test_refuses_other_parameters(self, handler: Any) -> None:
        with pytest.raises(TypeError, match="takes"):
            an_arm().run(handler)

    def test_refuses_generators(self) -> None:
        def pieces(task: TaskContract) -> Generator[int, None, None]:
            yield 1

        async def async_pieces(task: TaskContract) -> AsyncGenerator[int, None]:
            yield 1

        for handler in (pieces, async_pieces):
            with pytest.raises(TypeError, match="emit"):
                an_arm().run(handler)
