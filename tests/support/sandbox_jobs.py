"""Builders for what the executor runs."""

from collections.abc import Mapping

from octarm.executor.job import Job


def a_snippet(text: str, files: Mapping[str, bytes] | None = None) -> Job:
    return Job("python", text, files or {})


def a_shell_line(text: str, files: Mapping[str, bytes] | None = None) -> Job:
    return Job("shell", text, files or {})


def a_command(*arguments: str) -> Job:
    return Job("argv", "\0".join(arguments))
