"""The history of a run: its evaluations, a line each in a file of its folder."""

import json
import math
import os

from common import files
from common.errors import UserError

HISTORY = "eval_history.jsonl"
SHOWN_CHARACTERS = 60  # characters that a message shows of a damaged line


def read_history(folder, last_step=math.inf):
    """Return the evaluations of a run up to a step: dict of global step to results, ascending.

    Raises:
        UserError: names a line that is damaged.
    """
    path = os.path.join(folder, HISTORY)
    if not files.exists(path):
        return {}
    lines = files.read_bytes(path).decode("utf-8", "replace").splitlines()
    by_step = {}
    for number, line in enumerate(lines, 1):
        try:
            results = json.loads(line)
            by_step[results["global_step"] + 0] = results
        except (ValueError, KeyError, TypeError):
            text = "{}, row {}: {!r} is not an evaluation: remove this row"
            raise UserError(text.format(path, number, line[:SHOWN_CHARACTERS])) from None
    return {step: by_step[step] for step in sorted(by_step) if step <= last_step}
