"""The errors of the commands.

CommandError          shown as one message, without a traceback; ``exit_code`` ends the process
├── UsageError        2: the caller asked for something impossible, and can correct it
└── StartError        1: a part of the service did not start
"""


class CommandError(Exception):
    """``message`` is for a person and says what to do."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UsageError(CommandError):
    exit_code = 2


class StartError(CommandError):
    """The message contains the last lines of the failed part's log, if there are any."""
