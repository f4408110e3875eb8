"""The end of an attempt that has written fast: its result waits for what it wrote."""

from octarm.models.errors import OctarmError
from octarm.sdk import outcomes
from octarm.sdk.context import Context


async def written(ending: outcomes.Ending, context: Context) -> outcomes.Ending:
    """Wait until memory has what the attempt wrote; a success that it refuses is a failure.

    The attempt's deadline goes on meanwhile. Its own failure stays the reason that is told.
    """
    try:
        await context.memory.behind.flushed()
    except OctarmError as error:
        if isinstance(ending, outcomes.Failure):
            context.log.warning("memory_not_written", error=error.message)
            return ending
        return outcomes.raised(error)
    return ending
