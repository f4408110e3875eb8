import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octarm.executor.job import BadJob, job_from


class TestWhatToRun:
    def test_a_list_is_run_as_it_is(self) -> None:
        job = job_from({"command": ["printf", "%s", "$HOME; *"]}, {})

        assert job.argv == ("printf", "%s", "$HOME; *")
        assert job.command_hash == hashlib.sha256(b"printf\0%s\0$HOME; *").hexdigest()

    def test_a_string_is_read_by_the_shell(self) -> None:
        job = job_from({"command": "ls | wc"}, {})

        assert job.argv == ("/bin/sh", "-c", "ls | wc")
        assert job.command_hash == hashlib.sha256(b"ls | wc").hexdigest()

    def test_a_snippet_is_kept_as_it_is(self) -> None:
        job = job_from({"python": "print('é')\n"}, {})

        assert (job.kind, job.text) == ("python", "print('é')\n")

    @pytest.mark.parametrize(
        "context",
        [
            {},
            {"command": None},
            {"command": "ls", "python": "1"},
            {"command": ""},
            {"command": " \n"},
            {"command": []},
            {"command": [""]},
            {"command": ["ls", 1]},
            {"command": ["ls", None]},
            {"command": {"ls": 1}},
            {"command": 7},
            {"command": "ls\0-l"},
            {"command": ["a", "b\0c"]},
            {"command": "\ud800"},
            {"command": "x" * 200_000},
            {"command": ["x"] * 2000},
            {"python": ["print(1)"]},
            {"python": ""},
        ],
    )
    def test_refuses_what_it_cannot_run(self, context: dict[str, Any]) -> None:
        with pytest.raises(BadJob) as refused:
            job_from(context, {})

        assert refused.value.field.startswith("context")

    @settings(deadline=None)
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
    def test_any_arguments_come_back_unchanged(self, arguments: list[str]) -> None:
        assert job_from({"command": ["x", *arguments]}, {}).argv == ("x", *arguments)


class TestFiles:
    def test_are_written_as_utf_8(self) -> None:
        job = job_from({"command": "ls", "files": {"a b": "é", ".hidden": ""}}, {})

        assert job.files == {"a b": "é".encode(), ".hidden": b""}

    @pytest.mark.parametrize(
        "files",
        [
            [],
            "x",
            {"../x": ""},
            {"/etc/passwd": ""},
            {"a/b": ""},
            {".": ""},
            {"..": ""},
            {"": ""},
            {"x" * 101: ""},
            {"🦑" * 90: ""},
            {"a\nb": ""},
            {"a\0b": ""},
            {"\ud800": ""},
            {"a": 1},
            {"a": None},
            {"a": "\udfff"},
            {"a": "x" * 2**20, "b": "x"},
            {f"f{n}": "" for n in range(21)},
        ],
    )
    def test_refuses_names_and_contents_that_are_not_plain(self, files: Any) -> None:
        with pytest.raises(BadJob, match=r"context\.files"):
            job_from({"command": "ls", "files": files}, {})


class TestExpectedExitCode:
    def test_is_zero_unless_the_task_says_otherwise(self) -> None:
        assert job_from({"command": "ls"}, {}).expect_exit_code == 0
        assert job_from({"command": "ls"}, {"expect_exit_code": 3}).expect_exit_code == 3

    @pytest.mark.parametrize("value", [-1, 256, "0", 1.0, True, None, [0]])
    def test_refuses_what_is_no_exit_code(self, value: Any) -> None:
        with pytest.raises(BadJob, match="expect_exit_code"):
            job_from({"command": "ls"}, {"expect_exit_code": value})
