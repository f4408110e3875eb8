"""What goes wrong, and how often: every chance of a run is drawn from its seed."""

import random
from hashlib import blake2b


class Chances:
    """Seeded draws; nothing goes wrong before `begin`."""

    def __init__(self, seed: int | str) -> None:
        self.rng = random.Random(seed)
        self._rates: dict[str, float] = {}

    def begin(self, rates: dict[str, float]) -> None:
        """Say how likely each named fault is from now on; others do not happen."""
        self._rates = dict(rates)

    def hit(self, fault: str) -> bool:
        """Tell whether the fault happens now."""
        rate = self._rates.get(fault)
        return rate is not None and self.rng.random() < rate

    def delay_s(self, usual_s: float) -> float:
        """Draw a delay around the usual one; now and then a long one."""
        long = 50.0 if self.hit("slow") else 1.0
        return usual_s * (0.5 + self.rng.random()) * long


class Chronicle:
    """What happened, in order: the same seed must give the same digest."""

    def __init__(self, *, keep: bool = False) -> None:
        self._hash = blake2b(digest_size=16)
        self.lines: list[str] | None = [] if keep else None
        self.length = 0

    def note(self, at: float, *what: object) -> None:
        """Add one event."""
        line = f"{at:.6f} " + " ".join(map(str, what))
        self._hash.update(line.encode())
        self.length += 1
        if self.lines is not None:
            self.lines.append(line)

    def digest(self) -> str:
        """Give the hash of everything so far."""
        return self._hash.hexdigest()
