"""The exception for mistakes of the user."""


class UserError(ValueError):
    """A mistake that the user can correct: one line with file, row, value and remedy.

    Entry scripts end with that line and exit status 2 (`common.cli.run`). Any other exception is
    a bug and keeps its traceback.
    """
