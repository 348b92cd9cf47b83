"""The one exception that stands for a mistake of the user."""


class UserError(ValueError):
    """A mistake that the user can mend: one line with file, row, value and what to do about it.

    Entry scripts end with that line and exit status 2 (`common.cli.run`); everything else that
    is raised is a defect of ours and keeps its traceback.
    """
