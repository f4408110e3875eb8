"""A moment of patience with placements.

A short attempt is placed and over within milliseconds. Its placement waits for the news of its
start or end, so that both are one change of the ledger; nobody waits for a placement.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

from octarm.ledger.domain.news import Key, Placement

L = TypeVar("L")
REMEMBERED: Final = 20_000


class HeldPlacements(Generic[L]):
    """Placements by attempt, each belonging to the letter that it came in.

    A letter is done with once all its placements are recorded. `L` needs to be hashable.
    """

    def __init__(self) -> None:
        self._held: dict[Key, tuple[Placement, L]] = {}
        self._letters: dict[L, tuple[float, set[Key]]] = {}
        self._overtaken: dict[Key, None] = {}
        self._taken: set[Key] = set()

    def __len__(self) -> int:
        return len(self._letters)

    def __contains__(self, letter: object) -> bool:
        return letter in self._letters

    def hold(self, letter: L, placements: Sequence[Placement], *, now: float) -> None:
        """Keep a letter's placements; one that another letter has brought too counts for this."""
        keys = {(placement.task_id, placement.attempt) for placement in placements}
        self._letters[letter] = (now, keys)
        for placement in placements:
            self._held[placement.task_id, placement.attempt] = (placement, letter)

    def overtake(self, keys: Iterable[Key]) -> None:
        """Remember that news of these attempts came first; the last 20,000 of them."""
        self._overtaken.update(dict.fromkeys(keys))
        while len(self._overtaken) > REMEMBERED:
            del self._overtaken[next(iter(self._overtaken))]

    def overtaken(self, placements: Iterable[Placement]) -> list[Key]:
        """Say, once, which of these have nothing to wait for."""
        keys = [(placement.task_id, placement.attempt) for placement in placements]
        late = [key for key in keys if key in self._overtaken]
        for key in late:
            del self._overtaken[key]
        return late

    def take(self, keys: Iterable[Key]) -> list[Placement]:
        """Take what is held of these attempts; say `put_back` later, and `recorded` if it is."""
        taken = [key for key in keys if key in self._held]
        self._taken.update(taken)
        return [self._held[key][0] for key in taken]

    def put_back(self, placements: Iterable[Placement]) -> None:
        """Let placements that were taken wait on."""
        self._taken.difference_update((one.task_id, one.attempt) for one in placements)

    def recorded(self, placements: Iterable[Placement]) -> list[L]:
        """Forget placements that are recorded; gives the letters that are done with."""
        done = []
        for placement in placements:
            key = (placement.task_id, placement.attempt)
            _, letter = self._held.pop(key, (None, None))
            if letter is None or letter not in self._letters:
                continue
            left = self._letters[letter][1]
            left.discard(key)
            if not left:
                del self._letters[letter]
                done.append(letter)
        return done

    def ripe(self, *, since: float) -> list[L]:
        """List the letters that are held since then or longer, of which nothing is taken now."""
        return [
            letter
            for letter, (came, _) in self._letters.items()
            if came <= since and not self.is_taken(letter)
        ]

    def is_taken(self, letter: L) -> bool:
        """Whether some of a letter is about to be recorded."""
        return letter in self._letters and not self._taken.isdisjoint(self._letters[letter][1])

    def release(self, letter: L) -> list[Placement]:
        """Give back what is left of a letter, which is no longer held."""
        _, keys = self._letters.pop(letter, (0.0, set()))
        mine = [key for key in keys if self._held.get(key, (None, None))[1] is letter]
        return [self._held.pop(key)[0] for key in sorted(mine)]
