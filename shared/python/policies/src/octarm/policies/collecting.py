"""When the cycle collector looks for garbage: between cycles of placing, never inside one.

Left to itself it begins when enough objects have been made, which is most likely in a decision
with many tasks, and takes several times as long as that does.
"""

import asyncio
import gc
from types import TracebackType
from typing import Final, Self

# So many more objects than were there last time: some milliseconds of looking.
YOUNG: Final = 20_000
# What has outlived a look is left alone, and looked at again after so many others: two million
# objects, which are more than a full queue has. At a moment of rest it comes earlier.
ALL_AFTER: Final = 100
ALL_AT_REST: Final = 25
EVERY_S: Final = 5.0


class BetweenCycles:
    """Collects when it is called, instead of at any time: while it is open, a context manager.

    There is one collector in a process, and so one of these: `TIDY`.
    """

    def __init__(self) -> None:
        self._looks = 0
        self._open = False

    def __enter__(self) -> Self:
        self._open = True
        gc.disable()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        gc.enable()

    def __call__(self, *, resting: bool) -> None:
        """Look for garbage if it is time to; `resting` says that nothing is to be done now.

        While it is not open it does nothing: whoever owns the process decides.
        """
        if not self._open:
            return
        if self._looks >= (ALL_AT_REST if resting else ALL_AFTER):
            self._looks = 0
            gc.unfreeze()
        elif gc.get_count()[0] < YOUNG:
            return
        self._looks += 1
        gc.collect()
        gc.freeze()

    async def run(self) -> None:
        """Look every now and then until cancelled, too: a standby has no cycles."""
        while True:
            await asyncio.sleep(EVERY_S)
            self(resting=False)


TIDY: Final = BetweenCycles()
