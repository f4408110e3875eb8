"""Registering, draining, deregistering, showing and finding arms."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from octarm.arm_registry.domain.fleet import Stored
from octarm.arm_registry.domain.screening import owner_of
from octarm.arm_registry.usecases import DeregisterArm, DrainArm, FindArms, GetArm, RegisterArm
from octarm.arm_registry.usecases.directory import MAX_REPLY_BYTES
from octarm.arm_registry.usecases.ports import ChangedMeanwhile
from octarm.common.testing.fakes import FakeClock
from octarm.models import queries
from octarm.models.arms import ArmRecord
from octarm.models.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unavailable
from tests.support.arms import a_record, an_arm, an_instance
from tests.support.directory import FakeDirectory, RecordingAnnouncer, RecordingConsumers


class ContendedDirectory(FakeDirectory):
    """Somebody else always writes first."""

    async def create(self, record: ArmRecord) -> Stored:
        raise ChangedMeanwhile

    async def replace(self, stored: Stored, record: ArmRecord) -> Stored:
        raise ChangedMeanwhile

    async def remove(self, stored: Stored) -> None:
        raise ChangedMeanwhile


@dataclass
class Registry:
    directory: FakeDirectory = field(default_factory=FakeDirectory)
    announcer: RecordingAnnouncer = field(default_factory=RecordingAnnouncer)
    consumers: RecordingConsumers = field(default_factory=RecordingConsumers)
    clock: FakeClock = field(default_factory=FakeClock)

    async def register(self, arm_id: str = "writer", key: str = "", **fields: Any) -> ArmRecord:
        register = RegisterArm(self.directory, self.consumers, self.announcer, self.clock)
        return await register(queries.RegisterArm(arm=an_arm(arm_id, **fields), key=key))

    async def drain(self, arm_id: str = "writer", key: str = "") -> ArmRecord:
        drain = DrainArm(self.directory, self.announcer, self.clock)
        return await drain(queries.ArmKey(arm_id=arm_id, key=key))

    async def deregister(self, arm_id: str = "writer", key: str = "") -> bool:
        deregister = DeregisterArm(self.directory, self.announcer, self.clock)
        return (await deregister(queries.ArmKey(arm_id=arm_id, key=key))).changed

    async def get(self, arm_id: str = "writer") -> ArmRecord:
        return await GetArm(self.directory)(queries.ArmKey(arm_id=arm_id))

    async def find(self, *tags: str) -> list[ArmRecord]:
        return (await FindArms(self.directory)(queries.FindArms(capabilities=list(tags)))).arms


def online(**fields: Any) -> ArmRecord:
    return a_record(status="online", reason="", instances=[an_instance()], **fields)


class TestRegisterArm:
    async def test_a_new_arm_is_offline_until_it_beats(self) -> None:
        registry = Registry()

        record = await registry.register()

        assert (record.status, record.reason) == ("offline", "no instance has beaten yet")
        assert await registry.get() == record
        assert registry.consumers.ensured == ["writer"]
        assert registry.announcer.types == ["arm.registered"]

    async def test_doing_it_twice_is_doing_it_once(self) -> None:
        registry = Registry()

        first = await registry.register(key="mine")
        second = await registry.register(key="mine")

        assert first == second
        assert registry.directory.writes == 1
        assert registry.announcer.types == ["arm.registered"]

    async def test_the_owner_updates_it_and_its_status_stays(self) -> None:
        registry = Registry(FakeDirectory(online(owner=owner_of("mine"))))

        record = await registry.register(key="mine", description="better")

        assert (record.arm.description, record.status) == ("better", "online")

    @pytest.mark.bad_input(13)
    async def test_another_key_is_refused_before_anything_is_made(self) -> None:
        registry = Registry(FakeDirectory(online(owner=owner_of("mine"))))

        with pytest.raises(Conflict) as refused:
            await registry.register(key="theirs", description="taken over")

        assert refused.value.code == "ALREADY_EXISTS"
        assert await registry.get() == online(owner=owner_of("mine"))
        assert registry.consumers.ensured == []
        assert registry.announcer.events == []

    async def test_a_key_may_take_over_what_nobody_owns(self) -> None:
        registry = Registry(FakeDirectory(online()))

        assert (await registry.register(key="mine")).owner == owner_of("mine")

    async def test_an_unsound_declaration_is_refused_before_anything_is_made(self) -> None:
        registry = Registry()

        with pytest.raises(InvalidRequest):
            await registry.register(endpoint="http://127.0.0.1/")

        assert await registry.find() == []
        assert registry.consumers.ensured == []

    async def test_ends_a_drain_when_the_arm_is_offline(self) -> None:
        registry = Registry(FakeDirectory(a_record(drain_requested=True)))

        assert not (await registry.register()).drain_requested

    async def test_does_not_end_a_drain_while_the_arm_lives(self) -> None:
        draining = online(drain_requested=True).model_copy(update={"status": "draining"})
        registry = Registry(FakeDirectory(draining))

        assert (await registry.register()).drain_requested

    async def test_gives_up_when_others_always_write_first(self) -> None:
        with pytest.raises(Unavailable):
            await Registry(ContendedDirectory()).register()


class TestDrainArm:
    async def test_an_arm_drains_at_once(self) -> None:
        registry = Registry(FakeDirectory(online()))

        record = await registry.drain()

        assert (record.status, record.reason) == ("draining", "asked to drain")
        assert record.drain_requested
        assert registry.announcer.types == ["arm.draining"]

    async def test_doing_it_twice_is_doing_it_once(self) -> None:
        registry = Registry(FakeDirectory(online()))

        first = await registry.drain()
        second = await registry.drain()

        assert first == second
        assert registry.announcer.types == ["arm.draining"]

    async def test_an_arm_that_is_offline_drains_when_it_comes_back(self) -> None:
        registry = Registry(FakeDirectory(a_record()))

        record = await registry.drain()

        assert (record.status, record.drain_requested) == ("offline", True)
        assert registry.announcer.events == []

    async def test_another_key_is_refused(self) -> None:
        registry = Registry(FakeDirectory(online(owner=owner_of("mine"))))

        with pytest.raises(Forbidden):
            await registry.drain(key="theirs")

    async def test_an_unknown_arm_is_not_found(self) -> None:
        with pytest.raises(NotFound) as unknown:
            await Registry().drain()

        assert unknown.value.code == "ARM_NOT_FOUND"

    async def test_gives_up_when_others_always_write_first(self) -> None:
        with pytest.raises(Unavailable):
            await Registry(ContendedDirectory(online())).drain()


class TestDeregisterArm:
    async def test_the_arm_is_gone(self) -> None:
        registry = Registry(FakeDirectory(online()))

        assert await registry.deregister()
        assert not await registry.deregister()
        assert await registry.find() == []
        assert registry.announcer.types == ["arm.deregistered"]

    async def test_another_key_is_refused(self) -> None:
        registry = Registry(FakeDirectory(online(owner=owner_of("mine"))))

        with pytest.raises(Forbidden):
            await registry.deregister(key="theirs")

        assert await registry.get()

    async def test_gives_up_when_others_always_write_first(self) -> None:
        with pytest.raises(Unavailable):
            await Registry(ContendedDirectory(online())).deregister()


class TestFindArms:
    async def test_finds_those_that_have_every_tag(self) -> None:
        registry = Registry()
        await registry.register("writer", capabilities=["write", "en"])
        await registry.register("reader", capabilities=["read", "en"])
        await registry.register("both", capabilities=["read", "write", "en"])

        def ids(found: list[ArmRecord]) -> list[str]:
            return [record.arm.arm_id for record in found]

        assert ids(await registry.find()) == ["both", "reader", "writer"]
        assert ids(await registry.find("en", "write")) == ["both", "writer"]
        assert ids(await registry.find("fr")) == []

    async def test_leaves_out_what_would_not_fit_one_message(self) -> None:
        schema = {"type": "object", "description": "x" * 30_000}
        records = [
            a_record(
                f"arm-{number}",
                arm=an_arm(f"arm-{number}", input_schema=schema),
                instances=[an_instance(f"i-{one}", host="h" * 200) for one in range(100)],
            )
            for number in range(40)
        ]

        found = await Registry(FakeDirectory(*records)).find()

        assert len(found) == 40
        assert not found[0].arm.input_schema
        assert found[0].instances == []
        assert len(queries.ArmsFound(arms=found).model_dump_json()) < MAX_REPLY_BYTES
