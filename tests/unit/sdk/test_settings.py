"""Where an arm's process finds the bus."""

import json
from pathlib import Path

import pytest

from octarm.sdk.settings import ArmSettings, ClientSettings, find_nats


def test_an_arm_finds_the_embedded_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTARM_NATS_URL", raising=False)
    monkeypatch.setenv("OCTARM_DATA", str(tmp_path))
    (tmp_path / "up.json").write_text(json.dumps({"nats": "nats://embedded:1"}))

    found = find_nats(ClientSettings(nats_url=ArmSettings().nats_url))

    assert found == "nats://embedded:1"
