"""What waits, by whom it belongs to: each gets the same part of what is taken."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Items of several owners, each owner's in their order.

    Who hands in ten thousand at once does not keep the one item of another waiting.
    """

    __slots__ = ("_by_owner", "_size")

    def __init__(self) -> None:
        self._by_owner: dict[str, list[T]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, owner: str, item: T) -> None:
        """Let an item wait behind those of its owner."""
        self._by_owner.setdefault(owner, []).append(item)
        self._size += 1

    def take(self, count: int) -> list[T]:
        """Take up to `count` items; whoever has more than his part is next where it ended."""
        taken: list[T] = []
        owners = self._by_owner
        while owners and len(taken) < count:
            part = max((count - len(taken)) // len(owners), 1)
            for owner in list(owners)[: count - len(taken)]:
                own = owners.pop(owner)
                taken += own[:part]
                if len(own) > part:
                    del own[:part]
                    owners[owner] = own
        self._size -= len(taken)
        return taken
