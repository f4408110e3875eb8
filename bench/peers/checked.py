"""Every result is compared with what was sent."""

from collections.abc import Sequence


def check(values: Sequence[object], n: int) -> None:
    """Refuse a run that lost or changed anything.

    Raises:
        RuntimeError: a result is missing or wrong.
    """
    if list(values) != list(range(n)):
        raise RuntimeError(f"{n} tasks were sent, {len(values)} results came, or wrong ones")
