"""Where an arm's process finds the bus."""

import json
from pathlib import Path

import pytest

from octarm.sdk.settings import ArmSettings, ClientSettings, find_nats


def test_the_folder_of_the_embedded_stack_moves_with_the_data_of_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCTARM_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "octarm").mkdir()
    (tmp_path / "octarm/up.json").write_text(json.dumps({"nats": "nats://moved:1"}))

    assert find_nats(ClientSettings(nats_url="")) == "nats://moved:1"


def test_an_arm_finds_the_embedded_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTARM_NATS_URL", raising=False)
    monkeypatch.setenv("OCTARM_DATA", str(tmp_path))
    (tmp_path / "up.json").write_text(json.dumps({"nats": "nats://embedded:1"}))

    found = find_nats(ClientSettings(nats_url=ArmSettings().nats_url))

    assert found == "nats://embedded:1"
