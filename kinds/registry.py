"""All kinds of tasks, by the names of their heads in `checkpointing/inspection.py`."""

from kinds.choices import Choices
from kinds.classification import Classification
from kinds.labels import Labels
from kinds.spans import Spans

OF_HEADS = {
    "classifier": Classification(),
    "choice": Choices(),
    "spans": Spans(),
    "labels": Labels(),
}
KINDS = tuple(OF_HEADS.values())
