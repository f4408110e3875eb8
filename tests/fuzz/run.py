"""Fuzz with atheris: `python -m tests.fuzz.run [TARGET …] [--seconds N]`, ten minutes in all.

What it finds is written next to the target's corpus as `crash-…`; keep it there, as a test.
New inputs go to a folder outside the repository.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

from tests.fuzz.mutate import spoiled

with atheris.instrument_imports(include=["octarm"]):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import CHOOSING, CORPUS, PLAIN, TARGETS

MAX_BYTES = 16_384
HANG_S = 5
RSS_MIB = 768


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process; never returns."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="octarm-fuzz-") as folder:
        for number, data in enumerate(seeds(name)):
            Path(folder, str(number)).write_bytes(data)
        arguments = [
            *(f"-max_total_time={seconds}", f"-timeout={HANG_S}", f"-rss_limit_mb={RSS_MIB}"),
            *(f"-max_len={MAX_BYTES}", f"-artifact_prefix={corpus}/", "-print_final_stats=1"),
            *(folder, str(corpus)),
        ]
        more = {"custom_mutator": _mutator(name in CHOOSING)} if name in CHOOSING + PLAIN else {}
        atheris.Setup([sys.argv[0], *arguments], TARGETS[name], **more)
        atheris.Fuzz()


def _mutator(chooses: bool) -> Callable[[bytes, int, int], bytes]:
    """Mutate a document as JSON most of the time, and blindly otherwise."""

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        head, body = (data[:1], data[1:]) if chooses else (b"", data)
        if chooses and random.random() < 0.02:
            head = bytes([random.randrange(256)])
        for _ in range(random.randrange(1, 4)):
            new = spoiled(body, random) if random.random() < 0.9 else None
            if new is None or len(new) >= max_size:
                return bytes(atheris.Mutate(data, len(data)))
            body = new
        return head + body

    return mutate


def main() -> None:
    """Fuzz the targets one after another, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=[*TARGETS])
    parser.add_argument("--seconds", type=int, default=600, help="in all")
    given = parser.parse_args()
    each_s = max(given.seconds // len(given.targets), 1)
    if len(given.targets) == 1:
        fuzz(given.targets[0], each_s)
    failed = []
    for name in given.targets:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz.run", name, "--seconds", str(each_s)]
        if subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"found something in: {', '.join(failed)}")


if __name__ == "__main__":
    main()
