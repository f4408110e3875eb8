"""A collection follows its folder, however often and wherever the run is cut off."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from octarm.cli.ingest.pieces import Cut
from octarm.cli.ingest.run import Became, Ingest, Report
from octarm.cli.ingest.shelf import Kept
from octarm.models.errors import Conflict, InvalidRequest, NotFound, Unavailable

WORDS = "The quick brown fox jumps over the lazy dog. "


class FakeShelf:
    """Holds memories by id; fails with `error` once `room` calls were made."""

    def __init__(self) -> None:
        self.memories: dict[str, dict[str, Any]] = {}
        self.calls = 0
        self.room = 1_000_000
        self.error: Exception = Unavailable("gone")

    def kept(self) -> Iterator[Kept]:
        for memory_id, memory in self.memories.items():
            place = memory["metadata"]
            yield Kept(
                memory_id,
                place["document"],
                place["document_key"],
                place["document_version"],
                place["pieces"],
            )

    def remember(self, memories: Sequence[dict[str, Any]]) -> int:
        created = 0
        for memory in memories:
            self._step()
            created += memory["memory_id"] not in self.memories
            self.memories[memory["memory_id"]] = memory
        return created

    def forget(self, memory_id: str) -> None:
        self._step()
        self.memories.pop(memory_id, None)

    def _step(self) -> None:
        self.calls += 1
        if self.calls > self.room:
            raise self.error

    @property
    def documents(self) -> set[str]:
        return {memory["metadata"]["document"] for memory in self.memories.values()}


@pytest.fixture
def shelf() -> FakeShelf:
    return FakeShelf()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.md").write_text(f"# A\n\n{WORDS * 60}")
    (tmp_path / "b.txt").write_text("Text of b.")
    (tmp_path / "sub/c.html").write_text("<h1>C</h1><p>Text of c.")
    return tmp_path


def ingested(folder: Path, shelf: FakeShelf, *patterns: str, **cut: Any) -> Report:
    return Ingest(folder, shelf, Cut("docs", **cut), patterns)()


def became(report: Report) -> dict[str, Became]:
    return {one.document: one.became for one in report.outcomes}


def test_takes_in_every_document_with_the_place_of_each_piece(
    folder: Path, shelf: FakeShelf
) -> None:
    report = ingested(folder, shelf, tags=("person:ann",))

    assert set(became(report).values()) == {"added"}
    assert report.pieces_added == len(shelf.memories) > 4
    for memory in shelf.memories.values():
        place = memory["metadata"]
        head, _, text = memory["content"].partition("\n\n")
        assert head.startswith(place["document"])
        assert memory["tags"] == ["collection:docs", "person:ann"]
        if place["document"] != "sub/c.html":
            whole = (folder / place["document"]).read_text()
            assert text == whole[place["start"] : place["end"]]


def test_a_second_run_changes_nothing(folder: Path, shelf: FakeShelf) -> None:
    ingested(folder, shelf)
    before, calls = dict(shelf.memories), shelf.calls

    report = ingested(folder, shelf)

    assert set(became(report).values()) == {"unchanged"}
    assert (shelf.memories, shelf.calls) == (before, calls)


def test_follows_what_was_changed_added_and_removed(folder: Path, shelf: FakeShelf) -> None:
    ingested(folder, shelf)
    (folder / "a.md").write_text(f"# A\n\n{WORDS * 30}")
    (folder / "b.txt").unlink()
    (folder / "d.md").write_text("Text of d.")

    report = ingested(folder, shelf)

    assert became(report) == {
        "a.md": "changed",
        "b.txt": "forgotten",
        "d.md": "added",
        "sub/c.html": "unchanged",
    }
    fresh = FakeShelf()
    ingested(folder, fresh)
    assert shelf.memories == fresh.memories


def test_a_document_that_moves_is_there_afterwards(folder: Path, shelf: FakeShelf) -> None:
    ingested(folder, shelf)
    (folder / "b.txt").rename(folder / "moved.txt")

    ingested(folder, shelf)

    assert shelf.documents == {"a.md", "moved.txt", "sub/c.html"}


def test_another_way_of_cutting_replaces_the_pieces(folder: Path, shelf: FakeShelf) -> None:
    ingested(folder, shelf)

    report = ingested(folder, shelf, size=300)

    assert set(became(report).values()) == {"changed"}
    assert all(len(one["content"]) < 400 for one in shelf.memories.values())


def test_goes_on_wherever_it_was_cut_off(folder: Path) -> None:
    whole = FakeShelf()
    ingested(folder, whole)
    (folder / "a.md").write_text(f"# A\n\n{WORDS * 90}")
    (folder / "b.txt").unlink()
    aim = FakeShelf()
    ingested(folder, aim)

    needed = 0
    while True:
        shelf = FakeShelf()
        shelf.memories = dict(whole.memories)
        shelf.room = needed
        try:
            ingested(folder, shelf)
        except Unavailable:
            shelf.room = 1_000_000
            ingested(folder, shelf)
            assert shelf.memories == aim.memories
            needed += 1
        else:
            break
    assert needed > 5
    assert shelf.memories == aim.memories


def test_a_document_that_cannot_be_read_keeps_nobody_back(folder: Path, shelf: FakeShelf) -> None:
    ingested(folder, shelf)
    (folder / "a.md").write_bytes(b"\xff\xfe broken")
    (folder / "d.md").write_text("Text of d.")

    report = ingested(folder, shelf)

    assert became(report)["a.md"] == "failed"
    assert became(report)["d.md"] == "added"
    assert "a.md" in shelf.documents


def test_a_document_that_is_refused_keeps_nobody_back(folder: Path, shelf: FakeShelf) -> None:
    shelf.room, shelf.error = 1, InvalidRequest("not this one")

    report = ingested(folder, shelf)

    assert became(report) == {"a.md": "failed", "b.txt": "failed", "sub/c.html": "failed"}
    assert [one.why for one in report.outcomes] == ["not this one"] * 3


def test_patterns_touch_only_what_fits_them(folder: Path, shelf: FakeShelf) -> None:
    ingested(folder, shelf)
    (folder / "b.txt").unlink()
    (folder / "a.md").write_text("# A\n\nNew.")

    report = ingested(folder, shelf, "*.md")

    assert became(report) == {"a.md": "changed"}
    assert "b.txt" in shelf.documents


def test_a_collection_of_another_folder_is_not_swept_away(
    folder: Path, shelf: FakeShelf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ingested(folder, shelf)
    other = tmp_path_factory.mktemp("other")
    (other / "x.md").write_text("text")

    with pytest.raises(Conflict, match="another folder"):
        ingested(other, shelf)
    assert shelf.documents == {"a.md", "b.txt", "sub/c.html"}


def test_an_empty_or_missing_folder_is_said(tmp_path: Path, shelf: FakeShelf) -> None:
    with pytest.raises(NotFound, match="no documents"):
        ingested(tmp_path, shelf)
    with pytest.raises(NotFound, match="No such file"):
        ingested(tmp_path / "none", shelf)
