"""Rows of a file that cannot be read: the first one ends the command, or all are left out."""

from absl import logging

from common.errors import UserError

# A message lists at most this many rows.
SHOWN_ROWS = 10


class BadRow(Exception):
    """A mistake in a row and its remedy; `number`: its row, if it is not the row being read."""

    def __init__(self, problem, number=None):
        super().__init__(problem)
        self.number = number


class BadRows:
    """Collects the bad rows of a split.

    Args:
        are_skipped: bool, whether bad rows are left out; None means False, and errors then name no
            flag.
    """

    def __init__(self, are_skipped):
        self._are_skipped = are_skipped
        self._errors = []

    def add(self, path, place, problem, remedy=""):
        """Add a bad row; raise its `UserError` unless bad rows are left out.

        Args:
            path: str.
            place: str, such as "row 3".
            problem: `BadRow`.
            remedy: str, what to append to the problem; "": the flag that leaves bad rows out.
        """
        ends_in_command = str(problem).endswith("NEW_FILE")  # users copy it to the end of the line
        if not (remedy or ends_in_command) and self._are_skipped is False:
            remedy = "; --skip_bad_rows=True leaves such rows out"
        self._errors.append(UserError("{}, {}: {}{}".format(path, place, problem, remedy)))
        if not self._are_skipped:
            raise self._errors[0] from None

    def end(self, source, rows, nothing):
        """Warn of the rows that are left out.

        Args:
            source: str, what was read.
            rows: list of what was read from the good rows.
            nothing: str, such as "no questions".

        Raises:
            UserError: if no good row was read.
        """
        if not rows:
            raise self._errors[0] if self._errors else UserError("{}: {}".format(source, nothing))
        if self._errors:
            more = len(self._errors) - SHOWN_ROWS
            logging.warning(
                "BAD ROWS: %d of %s left out:\n%s%s",
                len(self._errors),
                source,
                "\n".join(str(error) for error in self._errors[:SHOWN_ROWS]),
                "\nand {} more".format(more) if more > 0 else "",
            )


def listed(rows):
    """Return the first of many rows, and how many more there are, as one line."""
    more = ["and {} more".format(len(rows) - SHOWN_ROWS)] if len(rows) > SHOWN_ROWS else []
    return ", ".join([str(row) for row in rows[:SHOWN_ROWS]] + more)


def row_error(path, number, problem):
    """Return the `UserError` of a bad row."""
    return UserError("{}, row {}: {}".format(path, number, problem))
