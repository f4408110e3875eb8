"""The command line that runs a job in a bubblewrap sandbox.

Inside there is no network, no home, no /run, /var or /etc of the host; /usr and the Python
in use are there to read, /tmp (the working folder) and /dev/shm to write, both small tmpfs.
"""

import itertools
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from octarm.executor.job import Job
from octarm.executor.limits import Limits
from octarm.executor.seccomp import filter_program

WORK_FOLDER: Final = "/tmp"  # noqa: S108 - inside the sandbox, a tmpfs of its own
WRITABLE: Final = (WORK_FOLDER, "/dev/shm")  # noqa: S108
SNIPPET: Final = "/snippet.py"
PYTHON: Final = "/opt/python"
ENVIRONMENT: Final = {
    "PATH": f"{PYTHON}/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": WORK_FOLDER,
    "LANG": "C.UTF-8",
    "PYTHONPATH": WORK_FOLDER,
    "PYTHONDONTWRITEBYTECODE": "1",
}
TOOLS: Final = ("bwrap", "prlimit", "setpriv")
if sysconfig.get_config_var("Py_ENABLE_SHARED") and not sys.base_prefix.startswith("/usr"):
    ENVIRONMENT["LD_LIBRARY_PATH"] = f"{PYTHON}/lib"
_FIRST_UID, _UIDS = 200_000, 10_000
_turns = itertools.count()


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: the command line and the descriptors it must inherit.

    From `status_fd`, if there is one, the process id of the sandbox's own init can be read.
    """

    argv: list[str]
    pass_fds: tuple[int, ...]
    env: Mapping[str, str]
    cwd: str = "/"
    status_fd: int | None = None


@contextmanager
def sandboxed(job: Job, limits: Limits) -> Iterator[Launch]:
    """Prepare `job` for a sandbox of its own; the descriptors are closed on the way out."""
    with ExitStack() as stack:
        uid = _uid()
        fds: list[int] = []
        argv = ["bwrap", *_namespaces(uid), *_root_folder(), *_writable(limits)]
        for path, content in _data_files(job, uid).items():
            fds.append(_in_memory(content, stack))
            perms = "0666" if path.startswith(f"{WORK_FOLDER}/") else "0444"
            argv += ["--perms", perms, "--file", str(fds[-1]), path]
        argv += ["--remount-ro", "/", "--remount-ro", "/dev", "--chdir", WORK_FOLDER]
        if (program := filter_program()) is not None:
            fds.append(_in_memory(program, stack))
            argv += ["--seccomp", str(fds[-1])]
        status, reported = os.pipe()
        for end in (status, reported):
            stack.callback(os.close, end)
        fds.append(reported)
        argv += ["--json-status-fd", str(reported)]
        argv += ["--", *_as_user(uid), *limited(limits), *_command(job)]
        yield Launch(argv, tuple(fds), {"PATH": os.defpath}, status_fd=status)


def limited(limits: Limits) -> list[str]:
    """Wrap a command in the kernel's limits for each single process of it.

    Set inside: the count of processes then is that of the sandbox, not of the host's user.
    """
    return [
        "prlimit",
        # One second later than the watcher, which adds up all processes and names the reason.
        f"--cpu={limits.cpu_s + 1}:{limits.cpu_s + 2}",
        f"--as={limits.memory_mib * 2 * 1024 * 1024}",
        f"--fsize={limits.work_mib * 1024 * 1024}",
        f"--nproc={limits.processes}",
        f"--nofile={limits.open_files}",
        "--core=0",
        "--",
    ]


def missing_tools() -> list[str]:
    """Name the programs that a sandbox needs and that are not on the PATH."""
    return [tool for tool in TOOLS if shutil.which(tool, path=os.defpath) is None]


def _uid() -> int:
    """A user of its own for each run when started by root, so that runs do not share a count."""
    return _FIRST_UID + next(_turns) % _UIDS if os.geteuid() == 0 else _FIRST_UID


def _namespaces(uid: int) -> list[str]:
    if os.geteuid():
        user = ["--unshare-user", "--uid", str(uid), "--gid", str(uid), "--cap-drop", "ALL"]
    else:
        # A user namespace made by root would still count as root; `_as_user` drops these.
        user = ["--cap-drop", "ALL"]
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            user += ["--cap-add", capability]
    environment = [
        word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)
    ]
    return [
        *user,
        *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--hostname", "sandbox"),
        *("--die-with-parent", "--new-session", "--clearenv", *environment),
    ]


def _as_user(uid: int) -> list[str]:
    """Leave root for good: only a real other user is held to a count of processes."""
    if os.geteuid():
        return []
    ids = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return ["setpriv", *ids, "--inh-caps=-all", "--bounding-set=-all", "--"]


def _root_folder() -> list[str]:
    argv = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), str(path)]
        elif path.exists():
            argv += ["--ro-bind", str(path), str(path)]
    argv += ["--perms", "0755", "--dir", "/etc", "--perms", "0755", "--dir", "/opt"]
    for name in ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives"):
        argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        argv += ["--ro-bind", sys.base_prefix, PYTHON]
    return [*argv, "--proc", "/proc", "--dev", "/dev"]


def _writable(limits: Limits) -> list[str]:
    size = str(limits.work_mib * 1024 * 1024)
    return [word for at in WRITABLE for word in ("--size", size, "--perms", "0777", "--tmpfs", at)]


def _data_files(job: Job, uid: int) -> dict[str, bytes]:
    files = {
        "/etc/passwd": f"sandbox:x:{uid}:{uid}::{WORK_FOLDER}:/bin/sh\n".encode(),
        "/etc/group": f"sandbox:x:{uid}:\n".encode(),
    }
    if job.kind == "python":
        files[SNIPPET] = job.text.encode()
    return files | {f"{WORK_FOLDER}/{name}": content for name, content in job.files.items()}


def _in_memory(content: bytes, stack: ExitStack) -> int:
    fd = os.memfd_create("octarm-sandbox")
    stack.callback(os.close, fd)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _command(job: Job) -> tuple[str, ...]:
    return ("python3", SNIPPET) if job.kind == "python" else job.argv
