"""An open checkpoint: its variables, its layout, its step, and whether its bytes are whole."""

import contextlib
import re

import numpy as np
import tensorflow.compat.v1 as tf

from common.errors import UserError

# (layout, a part of variable names that only this layout has). The first match counts.
LAYOUT_MARKS = (
    ("albert_zh", "word_embeddings_2"),
    ("google", "encoder/transformer/group_"),
    ("bert", "encoder/layer_0/"),
    ("albert_zh", "encoder/layer_shared/"),
)
UNKNOWN = "unknown"
# Variables of a training that are no weights. Reports do not list them.
NOT_WEIGHTS = re.compile(
    r"(^|/)(global_step|loss_scale|good_steps|beta[12]_power|adam|lamb|momentum)(_[mv])?(_\d+)?$",
    re.IGNORECASE,
)


class Checkpoint:
    """An open checkpoint.

    Args:
        prefix: str.

    Attributes:
        prefix: str.
        shapes: dict of variable name to shape, a list of int.
        dtypes: dict of variable name to `tf.DType`.

    Raises:
        UserError: if its index is damaged.
    """

    def __init__(self, prefix):
        self.prefix = prefix
        with _refused_if_damaged(prefix):
            self._reader = tf.train.load_checkpoint(prefix)
            self.shapes = self._reader.get_variable_to_shape_map()
            self.dtypes = self._reader.get_variable_to_dtype_map()

    def read(self, name):
        """Return a variable as an array; raises UserError if its bytes are damaged."""
        with _refused_if_damaged(self.prefix):
            return self._reader.get_tensor(name)  # checks the length and the checksum

    def check_whole(self):
        """Read every variable; raises UserError for the first that is damaged."""
        for name in self.shapes:
            self.read(name)

    def step(self):
        """Return the global step at which it was saved, None if it has no step."""
        name = tf.GraphKeys.GLOBAL_STEP
        return int(self.read(name)) if name in self.shapes else None

    def weight_names(self):
        """Return the sorted names of the weights, without the step and the optimizer's slots."""
        return sorted(name for name in self.shapes if not is_slot(name, self.shapes))

    def count_weights(self):
        """Return how many numbers the weights have."""
        return sum(int(np.prod(self.shapes[name])) for name in self.weight_names())


@contextlib.contextmanager
def _refused_if_damaged(prefix):
    try:
        yield
    except (tf.errors.OpError, RuntimeError, ValueError, LookupError) as error:
        raise UserError(
            "{} is damaged ({}): fetch or make it again".format(prefix, _first_line(error))
        ) from error


def _first_line(error):
    return str(error).strip().split("\n")[0]


def find_damage(prefix):
    """Read a whole checkpoint; return one line that says what is damaged, or None."""
    try:
        Checkpoint(prefix).check_whole()
    except UserError as error:
        return _first_line(error.__cause__)
    return None


def is_slot(name, names):
    """Return whether a variable is the step or a slot of any optimizer.

    Args:
        name: str.
        names: container of str, all variables of the checkpoint. The name of a slot is that of its
            weight, a slash and one more word.
    """
    return bool(NOT_WEIGHTS.search(name)) or name.rpartition("/")[0] in names


def detect_layout(names):
    """Return `albert_zh`, `google`, `bert` or `unknown` for the variable names of a checkpoint."""
    matches = (layout for layout, mark in LAYOUT_MARKS if any(mark in name for name in names))
    return next(matches, UNKNOWN)


def rename(name):
    """Return the model's name of a variable; those of TensorFlow Hub begin with `module/`."""
    return re.sub("^module/", "", name)
