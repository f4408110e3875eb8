"""Settings that come as files, and servers that are trusted by a file."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from octarm.common.bus.connection import connect_options, servers
from octarm.common.secret_files import secret
from octarm.common.service import ServiceSettings, read_settings
from octarm.llm.settings import Settings as LlmSettings
from octarm.models.errors import OctarmError, Unavailable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay the files out as a kubelet does: each is a link into the folder `..data`."""
    for name in [name for name in os.environ if name.startswith("OCTARM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OCTARM_SECRETS", str(tmp_path))
    (tmp_path / "..data").mkdir()
    return tmp_path


def put(folder: Path, name: str, value: str) -> None:
    (folder / "..data" / name).write_text(value)
    (folder / name).symlink_to(Path("..data", name))


class _Settings(ServiceSettings):
    postgres_url: SecretStr


def test_a_file_is_as_good_as_a_variable(folder: Path) -> None:
    put(folder, "octarm_nats_url", "tls://memory:pw@nats:4222?ca=/run/ca.crt\n")
    put(folder, "octarm_postgres_url", "postgresql://memory:pw@postgres/octarm\n")
    put(folder, "ca.crt", "not a setting")

    settings = read_settings(_Settings)

    assert settings.nats_url == "tls://memory:pw@nats:4222?ca=/run/ca.crt"
    assert settings.postgres_url.get_secret_value() == "postgresql://memory:pw@postgres/octarm"


def test_the_environment_wins_over_a_file_and_a_file_over_the_toml(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = tmp_path_factory.mktemp("config") / "octarm.toml"
    toml.write_text('[common]\nlog_level = "error"\nnats_url = "nats://toml"\nhttp_host = "::"\n')
    monkeypatch.setenv("OCTARM_CONFIG", str(toml))
    put(folder, "octarm_nats_url", "nats://file")
    put(folder, "octarm_log_level", "warning")
    monkeypatch.setenv("OCTARM_LOG_LEVEL", "debug")

    settings = read_settings(ServiceSettings)

    assert (settings.log_level, settings.nats_url, settings.http_host) == (
        "debug",
        "nats://file",
        "::",
    )


def test_an_arm_reads_its_own_secrets_there_too(folder: Path) -> None:
    put(folder, "octarm_llm_api_key", "sk-1")

    assert read_settings(LlmSettings).api_key.get_secret_value() == "sk-1"


def test_a_folder_that_is_not_there_refuses_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTARM_SECRETS", "/nowhere/at/all")

    with pytest.raises(OctarmError, match="OCTARM_SECRETS names /nowhere/at/all"):
        read_settings(ServiceSettings)


def test_a_command_without_settings_finds_a_secret(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "octarm_nats_url", "nats://file\n")

    assert secret("OCTARM_NATS_URL") == "nats://file"
    assert secret("OCTARM_POSTGRES_URL") == ""
    monkeypatch.setenv("OCTARM_NATS_URL", "nats://variable")
    assert secret("OCTARM_NATS_URL") == "nats://variable"


def test_the_authority_of_a_url_is_for_all_its_servers() -> None:
    url = "tls://a:pw@nats-0:4222, tls://a:pw@nats-1:4222?ca=/run/ca.crt"

    assert sorted(servers(url)) == ["tls://a:pw@nats-0:4222", "tls://a:pw@nats-1:4222"]


def test_a_url_without_an_authority_sets_nothing() -> None:
    assert "tls" not in connect_options("a", "nats://127.0.0.1:4222")


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, empty = tmp_path / "ca.crt", tmp_path / "empty.crt"
    empty.write_text("")

    for file in (missing, empty):
        with pytest.raises(Unavailable, match=f"authority {file} cannot be read"):
            connect_options("a", f"tls://nats:4222?ca={file}")
