"""Hadolint's rules that can concern this Dockerfile, by their numbers; its own program is not here.

Left out are those about programs that are not used (apk, yum, npm, gem, wget …). Of the others only
DL3008 is broken, on purpose: Debian takes the old build of a package away when it mends one, so
a fixed version of bubblewrap would one day not be found.
"""

import json
import re
import subprocess

import pytest

from tests.support.manifests.dockerfile import Instruction, instructions, stages
from tests.support.sources import ROOT

TEXT = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
ALL = list(instructions(TEXT))
STAGES = stages(ROOT / "deploy/Dockerfile")
KNOWN = {
    *("ARG", "FROM", "COPY", "RUN", "ENV", "LABEL", "WORKDIR", "USER", "EXPOSE", "SHELL"),
    *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"),
}


def words(word: str) -> list[Instruction]:
    return [one for one in ALL if one.word == word]


def test_only_instructions_that_are_meant() -> None:
    # DL4000 (MAINTAINER), DL3020 (ADD), DL3043 (ONBUILD in ONBUILD), DL4003 (several CMD).
    assert {one.word for one in ALL} <= KNOWN


def test_it_begins_with_arguments_and_stages() -> None:
    # DL3061.
    first = next(one.word for one in ALL if one.word != "ARG")

    assert first == "FROM"


def test_bases_are_tagged_and_never_latest_and_of_any_platform() -> None:
    # DL3006, DL3007, DL3029.
    for stage in STAGES:
        assert re.search(r":[\w.-]+$", stage.image)
        assert not stage.image.endswith(":latest")
    assert all("--platform" not in one.rest for one in words("FROM"))


def test_stages_have_names_of_their_own_and_copy_from_earlier_ones() -> None:
    # DL3022, DL3023, DL3024.
    names = [stage.name for stage in STAGES]

    assert len(set(names)) == len(names) == len(list(filter(None, names)))
    for place, stage in enumerate(STAGES):
        sources = {one.flags["from"] for one in stage.of("COPY") if "from" in one.flags}
        assert sources <= set(names[:place])


def test_folders_are_absolute_and_set_before_they_are_copied_into() -> None:
    # DL3000, DL3003 (no cd), DL3021 (several sources need a folder), DL3045.
    assert all(one.value.startswith("/") for one in words("WORKDIR"))
    assert not any(re.search(r"\bcd\b", one.value) for one in words("RUN"))
    for stage in STAGES:
        is_set = False
        for one in stage.instructions:
            is_set = is_set or one.word == "WORKDIR"
            if one.word == "COPY":
                *sources, target = one.value.split()
                assert is_set or target.startswith("/")
                assert len(sources) == 1 or target.endswith("/")


def test_what_runs_is_said_once_as_a_list() -> None:
    # DL3012, DL3025, DL3057, DL4004.
    for word in ("ENTRYPOINT", "HEALTHCHECK", "STOPSIGNAL", "USER"):
        assert len(words(word)) == 1, word
    assert json.loads(words("ENTRYPOINT")[0].value)
    assert json.loads(words("HEALTHCHECK")[0].value.partition("CMD")[2])


def test_the_last_user_is_not_root_and_nobody_becomes_it() -> None:
    # DL3002, DL3004.
    assert not words("USER")[-1].value.startswith(("0", "root"))
    assert not any("sudo" in one.value for one in words("RUN"))


def test_ports_are_ports() -> None:
    # DL3011.
    assert all(0 < int(one.value) < 65_536 for one in words("EXPOSE"))


def test_packages_are_installed_and_leave_nothing_behind() -> None:
    # DL3009, DL3013, DL3014, DL3015, DL3027, DL3042.
    for one in words("RUN"):
        assert not re.search(r"\bapt (?:install|update)|pip install", one.value)
        for install in re.findall(r"apt-get install[^;]*", one.value):
            assert {"--yes", "--no-install-recommends"} <= set(install.split())
            assert "apt-get update" in one.value
            assert "rm -rf /var/lib/apt/lists/*" in one.value


def test_steps_are_one_layer_each_and_stop_at_the_first_failure() -> None:
    # DL3059, DL4006 (no pipe, so none that hides a failure), DL4005.
    for stage in STAGES:
        assert len(stage.of("RUN")) <= 1
        for one in stage.of("RUN"):
            assert [json.loads(shell.value) for shell in stage.of("SHELL")] == [["/bin/sh", "-euc"]]
            assert not re.search(r"(?<!\|)\|(?!\|)", one.value)


@pytest.mark.parametrize("one", words("RUN"), ids=lambda one: one.value[:20])
def test_the_shell_understands_each_step(one: Instruction) -> None:
    # SC: what is no shell at all is found by the shell.
    found = subprocess.run(["/bin/sh", "-n", "-c", one.value], capture_output=True, text=True)

    assert (found.returncode, found.stderr) == (0, "")


def test_labels_and_variables_are_written_plainly() -> None:
    # DL3048 (names of labels), DL3044 (no variable that is set in the same ENV).
    for one in words("LABEL"):
        assert all(
            re.fullmatch(r"[a-z][a-z0-9.-]*", name) for name in re.findall(r"(\S+)=", one.rest)
        )
    for one in words("ENV"):
        assert "$" not in one.rest
