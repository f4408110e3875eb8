"""Which gateway is used, and with which key."""

import json
import stat
from pathlib import Path

import pytest

from octarm.cli.profiles import Config, config_path, load, resolve, save
from octarm.models.errors import InvalidRequest, Unavailable
from tests.support.cli import Cli

WORK = {"url": "https://work.example", "api_key": "secret-key-of-work"}


def an_environment(home: Path, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data")} | more


def write(home: Path, config: Config) -> None:
    save(config_path(an_environment(home)), config)


def start_embedded(home: Path) -> None:
    (home / "data" / "octarm").mkdir(parents=True)
    up = {"gateway": "http://127.0.0.1:4242", "nats": "nats://127.0.0.1:1", "pids": {}}
    (home / "data" / "octarm" / "up.json").write_text(json.dumps(up))


class TestResolve:
    def test_prefers_the_option_then_the_environment_then_the_profile(self, tmp_path: Path) -> None:
        write(tmp_path, Config("work", {"work": WORK}))
        env = an_environment(tmp_path, OCTARM_URL="http://from-env")

        assert resolve(url="http://given", environ=env).url == "http://given"
        assert resolve(environ=env).url == "http://from-env"
        assert resolve(environ=an_environment(tmp_path)).url == "https://work.example"

    def test_falls_back_to_the_embedded_stack(self, tmp_path: Path) -> None:
        start_embedded(tmp_path)

        assert resolve(environ=an_environment(tmp_path)).url == "http://127.0.0.1:4242"

    def test_names_what_to_do_when_nothing_is_known(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="no gateway is known") as caught:
            resolve(environ=an_environment(tmp_path))

        assert "octarm up" in caught.value.recovery_hint

    def test_refuses_a_profile_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="no profile 'wrok'"):
            resolve(profile="wrok", environ=an_environment(tmp_path))

    def test_sends_a_profiles_key_to_that_profiles_url_only(self, tmp_path: Path) -> None:
        write(tmp_path, Config("work", {"work": WORK}))
        env = an_environment(tmp_path)

        assert resolve(environ=env).api_key == WORK["api_key"]
        assert resolve(url="https://work.example/", environ=env).api_key == WORK["api_key"]
        assert resolve(url="https://elsewhere.example", environ=env).api_key == ""

    def test_the_environments_key_wins(self, tmp_path: Path) -> None:
        write(tmp_path, Config("work", {"work": WORK}))
        env = an_environment(tmp_path, OCTARM_API_KEY="mine")

        assert resolve(environ=env).api_key == "mine"

    def test_ignores_an_unreadable_up_file(self, tmp_path: Path) -> None:
        start_embedded(tmp_path)
        (tmp_path / "data" / "octarm" / "up.json").write_text("{")

        with pytest.raises(Unavailable):
            resolve(environ=an_environment(tmp_path))


class TestFile:
    def test_reads_back_what_it_wrote_and_is_for_its_owner_only(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "config.toml"
        config = Config("a", {"a": {"url": 'http://x/"\\\x7f\u2028é'}, "b": {}})

        save(path, config)

        assert load(path) == config
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        "text", ["[", "colour = 1", "profiles = 3", "[profiles.a]\nurl = 3", "[profiles.a]\nx = ''"]
    )
    def test_refuses_what_it_does_not_know(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "config.toml"
        path.write_text(text)

        with pytest.raises(InvalidRequest, match=r"config\.toml"):
            load(path)


class TestConfigCommand:
    def test_sets_and_shows_profiles_without_showing_the_key(self, cli: Cli) -> None:
        assert cli("config", "set", "url", "https://work.example", "-p", "work").code == 0
        assert (
            cli("config", "set", "api_key", "-", "-p", "work", stdin="top-secret-key\n").code == 0
        )

        shown = cli("config", "show", "--json").json

        assert shown["url"] == "https://work.example"
        assert shown["source"] == "profile work"
        assert "top-secret-key" not in cli("config", "show").out
        assert load(Path(shown["path"])).profile("work")["api_key"] == "top-secret-key"

    def test_chooses_and_removes(self, cli: Cli) -> None:
        cli("config", "set", "url", "http://a", "-p", "one")
        cli("config", "set", "url", "http://b", "-p", "two")

        assert cli("config", "set", "default", "two").code == 0
        assert cli("config", "show", "--json").json["url"] == "http://b"
        assert cli("config", "set", "url", "", "-p", "two").code == 0
        assert cli("config", "show", "--json").json["url"] is None

    @pytest.mark.parametrize(
        "arguments",
        [
            ("set", "colour", "red"),
            ("set", "url", "ftp://x"),
            ("set", "url", "http://x", "-p", "../x"),
            ("set", "default", "nobody"),
        ],
    )
    def test_refuses_nonsense_as_usage(self, cli: Cli, arguments: tuple[str, ...]) -> None:
        ran = cli("config", *arguments)

        assert ran.code == 3
        assert ran.err.startswith("error: ")
