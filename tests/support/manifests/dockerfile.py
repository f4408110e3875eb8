"""Reading a Dockerfile: its instructions, stage by stage."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction, its lines joined, without its comments."""

    word: str
    rest: str

    @property
    def flags(self) -> dict[str, str]:
        """Give `--name=value` at its beginning."""
        return dict(re.findall(r"--([a-z-]+)=(\S+)", self._split()[0]))

    @property
    def value(self) -> str:
        """Give what follows the flags."""
        return self._split()[1]

    def _split(self) -> tuple[str, str]:
        found = re.match(r"((?:--[a-z-]+=\S+\s+)*)(.*)", self.rest, re.DOTALL)
        assert found
        return found[1], found[2]


@dataclass
class Stage:
    """What is between one FROM and the next."""

    image: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def of(self, word: str) -> list[Instruction]:
        """Give the instructions of one kind."""
        return [one for one in self.instructions if one.word == word]

    def environment(self) -> dict[str, str]:
        """Give what ENV sets."""
        return dict(re.findall(r"(\w+)=(\S+)", " ".join(one.rest for one in self.of("ENV"))))


def instructions(text: str) -> Iterator[Instruction]:
    """Give the instructions of a Dockerfile."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield Instruction(word.upper(), rest.strip())


def stages(path: Path) -> list[Stage]:
    """Give the stages, with the global arguments' defaults in their images' names."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for one in instructions(path.read_text(encoding="utf-8")):
        if one.word == "FROM":
            image, _, name = one.rest.partition(" AS ")
            found.append(Stage(_filled(image, arguments), name))
        elif found:
            found[-1].instructions.append(one)
        elif one.word == "ARG":
            name, _, value = one.rest.partition("=")
            arguments[name] = value
    return found


def _filled(text: str, arguments: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], text)
