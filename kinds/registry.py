"""All kinds of tasks, by the names of their heads in `checkpointing/inspection.py`."""

from common.errors import UserError
from kinds.choices import Choices
from kinds.classification import Classification
from kinds.entities import Entities
from kinds.spans import Spans

OF_HEADS = {
    "classifier": Classification(),
    "choice": Choices(),
    "spans": Spans(),
    "labels": Entities(),
}
KINDS = tuple(OF_HEADS.values())


def kind_of(kinds, task_name):
    """Return the kind, one of several, that has a task of this name, in upper or lower case.

    Raises:
        UserError: lists the tasks of the kinds, or names the script of another kind.
    """
    for kind in kinds:
        if task_name.lower() in kind.tasks:
            return kind
    scripts = [kind.script for kind in KINDS if task_name.lower() in kind.tasks]
    if scripts:
        raise UserError("task {} belongs to {}: run that script".format(task_name, scripts[0]))
    known = sorted(name for kind in kinds for name in kind.tasks)
    raise UserError("task {!r} is unknown; the tasks are {}".format(task_name, ", ".join(known)))
