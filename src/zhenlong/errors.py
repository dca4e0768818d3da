"""The error type shown to users: one line, and exit code 2."""


class UserError(Exception):
    """A mistake in usage, data or configuration that the user can fix.

    The message is one line that says what is wrong, where, what was expected and what to do. The command line prints it
    without a traceback and exits with code 2; Python callers can catch it like any exception.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
