"""One suite for the arm directory: the fake and the KV bucket behave alike."""

from collections.abc import AsyncGenerator

import nats
import pytest
import pytest_asyncio

from octarm.arm_registry.storage import KvDirectory
from octarm.arm_registry.usecases.ports import ChangedMeanwhile, Directory
from octarm.common.bus.topology import provision
from tests.support.arms import a_record
from tests.support.directory import FakeDirectory


class DirectoryContract:
    """What every directory must do."""

    async def test_knows_no_arm_at_first(self, directory: Directory) -> None:
        assert await directory.get("writer") is None
        assert await directory.all() == {}

    async def test_gives_back_what_was_created(self, directory: Directory) -> None:
        created = await directory.create(a_record("writer"))

        assert await directory.get("writer") == created
        assert created.record == a_record("writer")

    async def test_lists_every_arm(self, directory: Directory) -> None:
        first = await directory.create(a_record("writer"))
        second = await directory.create(a_record("reader"))

        assert await directory.all() == {"writer": first, "reader": second}

    async def test_does_not_create_an_arm_twice(self, directory: Directory) -> None:
        await directory.create(a_record())

        with pytest.raises(ChangedMeanwhile):
            await directory.create(a_record(reason="another"))

    async def test_replaces_what_is_there(self, directory: Directory) -> None:
        created = await directory.create(a_record())

        replaced = await directory.replace(created, a_record(reason="later"))

        assert await directory.get("writer") == replaced
        assert replaced.record.reason == "later"
        assert replaced.revision > created.revision

    async def test_does_not_replace_what_has_changed_meanwhile(self, directory: Directory) -> None:
        created = await directory.create(a_record())
        replaced = await directory.replace(created, a_record(reason="later"))

        with pytest.raises(ChangedMeanwhile):
            await directory.replace(created, a_record(reason="too late"))

        assert await directory.get("writer") == replaced

    async def test_removes_what_is_there(self, directory: Directory) -> None:
        created = await directory.create(a_record())

        await directory.remove(created)

        assert await directory.get("writer") is None
        assert await directory.all() == {}

    async def test_does_not_remove_what_has_changed_meanwhile(self, directory: Directory) -> None:
        created = await directory.create(a_record())
        await directory.replace(created, a_record(reason="later"))

        with pytest.raises(ChangedMeanwhile):
            await directory.remove(created)

        assert await directory.get("writer") is not None

    async def test_does_not_replace_what_was_removed(self, directory: Directory) -> None:
        created = await directory.create(a_record())
        await directory.remove(created)

        with pytest.raises(ChangedMeanwhile):
            await directory.replace(created, a_record(reason="too late"))

    async def test_creates_again_what_was_removed(self, directory: Directory) -> None:
        created = await directory.create(a_record())
        await directory.remove(created)

        again = await directory.create(a_record(reason="again"))

        assert await directory.get("writer") == again
        assert again.revision > created.revision


class TestFakeDirectory(DirectoryContract):
    @pytest.fixture
    def directory(self) -> Directory:
        return FakeDirectory()


@pytest.mark.integration
class TestKvDirectory(DirectoryContract):
    @pytest_asyncio.fixture
    async def directory(self, nats_url: str) -> AsyncGenerator[Directory, None]:
        connection = await nats.connect(nats_url)
        try:
            await provision(connection.jetstream())
            yield KvDirectory(connection)
        finally:
            await connection.close()
