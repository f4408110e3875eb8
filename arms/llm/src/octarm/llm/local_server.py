"""The process that holds the local model: `python -m octarm.llm.local_server`.

A process of its own, because llama.cpp ends its process on an internal error and writes to
stderr as it likes; both must not reach the arm. It reads its settings as one JSON line from
stdin, prints its address as one line, serves on loopback only with the key it was given, and
leaves when stdin closes, so it never outlives the arm.
"""

import contextlib
import json
import os
import sys
import threading
from typing import TypedDict


class LocalServerSettings(TypedDict):
    """What the arm writes to stdin."""

    path: str
    name: str
    context_tokens: int
    slots: int
    threads: int
    api_key: str


def main() -> None:
    """Load the model, print the address, serve until stdin closes."""
    import xllamacpp

    settings: LocalServerSettings = json.loads(sys.stdin.readline())
    leaving = threading.Thread(target=_leave_with_the_arm, daemon=True)
    leaving.start()  # before the model is loaded, which takes a while on a busy machine
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}
    params.api_keys = [settings["api_key"]]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context_tokens"] * settings["slots"]
    # Writing an answer waits for memory, not for arithmetic: a second thread gains a fifth on an
    # idle machine and, spinning at each barrier, loses nine tenths on a busy one.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = settings["threads"]
    params.sampling.dry_multiplier = 0.8  # small models fall into repeating themselves
    params.cache_ram_mib = 0
    params.ui = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{server.listening_address}\n")
        sys.stdout.flush()
    leaving.join()


def _leave_with_the_arm() -> None:
    """Exit as soon as stdin closes; a server in the middle of a long prompt needs no goodbye."""
    os.read(0, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
