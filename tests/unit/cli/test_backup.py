"""Backups that are refused: unfinished ones, changed ones, and where something is already."""

from pathlib import Path

import pytest

from octarm.cli.backup import manifest
from octarm.models.errors import InvalidRequest
from tests.support.cli import Cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / manifest.DUMP).write_bytes(b"a dump")
    manifest.write(
        tmp_path,
        [manifest.DUMP],
        postgres=180004,
        heads={"ledger": "0001"},
        rows={"ledger.task": 3},
        policies=None,
    )
    return tmp_path


def test_reads_what_was_written(folder: Path) -> None:
    read = manifest.read(folder)

    assert read.rows == {"ledger.task": 3}
    assert read.files[manifest.DUMP].bytes == 6


def test_refuses_a_file_that_was_changed_or_is_gone(folder: Path) -> None:
    (folder / manifest.DUMP).write_bytes(b"a dumb")
    with pytest.raises(InvalidRequest, match="checksum"):
        manifest.read(folder)

    (folder / manifest.DUMP).unlink()
    with pytest.raises(InvalidRequest, match="gone"):
        manifest.read(folder)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}'])
def test_refuses_what_is_no_backup(folder: Path, text: str) -> None:
    (folder / manifest.NAME).write_text(text)

    with pytest.raises(InvalidRequest, match="no whole backup"):
        manifest.read(folder)


def test_the_command_says_what_is_missing(cli: Cli, tmp_path: Path) -> None:
    nothing = cli("backup", str(tmp_path / "new"), "--data", str(tmp_path))
    none = cli("restore", str(tmp_path), "--json")

    assert nothing.code == 3
    assert "no embedded stack runs on" in nothing.err
    assert none.code == 3
    assert "no whole backup" in none.err
    assert not (tmp_path / "new").exists()
