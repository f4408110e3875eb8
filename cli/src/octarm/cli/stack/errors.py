"""What the embedded stack says when it cannot go on."""

from octarm.models.errors import Unavailable


class StackError(Unavailable):
    """The embedded stack cannot start or continue.

    The message is one line for a person; `recovery_hint` says what mends it.
    """

    default_hint = "Run `octarm doctor`; the logs are in the data folder."
