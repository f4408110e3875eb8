"""What the embedded stack says when it cannot go on."""


class StackError(RuntimeError):
    """The embedded stack cannot start or continue.

    The message is one line for a person; `recovery_hint` says what mends it.
    """

    def __init__(self, message: str, recovery_hint: str = "") -> None:
        super().__init__(message)
        self.recovery_hint = recovery_hint

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}; {self.recovery_hint}" if self.recovery_hint else message
