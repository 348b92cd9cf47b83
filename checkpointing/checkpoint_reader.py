"""An open checkpoint: its variables (renamed to the names here), layout, step and damage."""

import contextlib
import re

import numpy as np
import tensorflow.compat.v1 as tf

from common import files
from common.errors import UserError

# (layout, beginning of variable names that only this layout has). The first match counts.
LAYOUT_MARKS = (
    ("albert_zh", "bert/embeddings/word_embeddings_2"),
    ("google", "bert/encoder/transformer/group_"),
    ("bert", "bert/encoder/layer_0/"),
    ("albert_zh", "bert/encoder/layer_shared/"),
)
UNKNOWN = "unknown"
# What TensorFlow 2 adds to the names of variables: (pattern, replacement).
OBJECT_NAMES = ((r"/\.ATTRIBUTES/VARIABLE_VALUE$", ""), (r"\.S", "/"))
# The scopes around a whole model, such as `module/` of TensorFlow Hub.
OUTER_SCOPES = re.compile(r"^((?:.+/)?)bert/embeddings/word_embeddings$")
# LayerNorm as Keras calls it. Keras numbers the layers of a model, not the layers of a scope.
KERAS_NORM = re.compile(r"/layer_normalization(?:_(\d+))?/")
# Names of variables that no model here has -> which code writes them, and what to do.
FOREIGN_NAMES = (
    (
        r"\.ATTRIBUTES/VARIABLE_VALUE$",
        "the names are those of Keras objects and do not say which weight is which: save the model "
        "by the names of its variables, or as a folder of Hugging Face for "
        "`convert_checkpoint.py from-huggingface`",
    ),
    (
        r"albert_layer_groups|encoder[./]layer[./]\d+[./]|[./](weight|bias)$",
        "the names are those of a PyTorch port: give its folder with config.json and "
        "pytorch_model.bin to `convert_checkpoint.py from-huggingface`",
    ),
    (r"^(electra|generator|discriminator)", "it is an ELECTRA, a model that does not exist here"),
    (r"", "the models here have names that begin with bert/embeddings/ and bert/encoder/"),
)
# Variables that a training run saves beside the weights. Reports do not list them.
NOT_WEIGHTS = re.compile(
    r"(^|/)(global_step|loss_scale|good_steps|beta[12]_power|adam|lamb|momentum)(_[mv])?(_\d+)?$"
    r"|^_CHECKPOINTABLE_OBJECT_GRAPH$|^save_counter/|\.OPTIMIZER_SLOT/",
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
        names: dict of variable name to the model's name of that variable, see `model_names`.

    Raises:
        UserError: if the index is damaged, if git-lfs has not fetched a file, or if
            TensorFlow would read the prefix as a pattern.
    """

    def __init__(self, prefix):
        files.refuse_pattern(prefix)
        self.prefix = prefix
        for part in (".index", ".data-*"):
            for path in files.glob(prefix + part):
                files.refuse_pointer(path)
        with _refused_if_damaged(prefix):
            self._reader = tf.train.load_checkpoint(prefix)
            self.shapes = self._reader.get_variable_to_shape_map()
            self.dtypes = self._reader.get_variable_to_dtype_map()
        self.names = model_names(self.shapes)

    def read(self, name):
        """Return a variable as an array; raises UserError if its bytes are damaged."""
        with _refused_if_damaged(self.prefix):
            return self._reader.get_tensor(name)  # checks the length and the checksum

    def read_weight(self, name):
        """Return a variable as float32, which all weights have here; integers keep their type.

        Raises:
            UserError: if the variable's bytes are damaged or a value is not a finite number.
        """
        array = self.read(name)
        if not self.dtypes[name].is_floating:
            return array
        array = array.astype(np.float32, copy=False)
        refuse_not_finite(self.prefix, name, array)
        return array

    def is_float32(self):
        """Return whether all variables of a floating type are float32."""
        return all(dtype == tf.float32 for dtype in self.dtypes.values() if dtype.is_floating)

    def check_whole(self):
        """Read every variable; raises UserError for one that is damaged or not finite."""
        for name in self.dtypes:
            self.read_weight(name)

    def step(self):
        """Return the global step of the checkpoint, None if it stores no step."""
        name = tf.GraphKeys.GLOBAL_STEP
        return int(self.read(name)) if name in self.shapes else None

    def weight_names(self):
        """Return the sorted names of the weights, without the step and the optimizer's slots."""
        return sorted(name for name in self.shapes if not is_slot(name, self.shapes))

    def holds(self, name):
        """Return whether the checkpoint has the variable that the model calls `name`."""
        return name in self.names.values()

    def model_shapes(self):
        """Return the shapes of all variables under the model's names."""
        return {name: self.shapes[stored] for stored, name in self.names.items()}

    def check_known(self):
        """Raise UserError if the checkpoint holds no model of a known layout."""
        if detect_layout(self.names.values()) == UNKNOWN:
            weights = self.weight_names() or sorted(self.shapes)
            first = weights[0] if weights else "no variable"
            marks = (text for mark, text in FOREIGN_NAMES if re.search(mark, first))
            raise UserError(
                "{} holds no ALBERT or BERT under their published names, but {} ({} variables): "
                "{}".format(self.prefix, first, len(weights), next(marks))
            )

    def count_weights(self):
        """Return how many numbers the weights have."""
        return sum(int(np.prod(self.shapes[name])) for name in self.weight_names())


def refuse_not_finite(source, name, array):
    """Raise `UserError` for an array of a file or checkpoint that has NaN or infinity."""
    if not np.isfinite(array).all():
        raise UserError(
            "{}: {} has values that are not finite numbers: training diverged before it was "
            "saved; give an earlier checkpoint".format(source, name)
        )


@contextlib.contextmanager
def _refused_if_damaged(prefix):
    try:
        yield
    except (tf.errors.OpError, RuntimeError, ValueError, LookupError) as error:
        if ".data-" in str(error) and not files.glob(prefix + ".data-*"):
            text = "{0}.index lies there without {0}.data-*: fetch it, or give it this name"
            raise UserError(text.format(prefix)) from error
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
        return _first_line(error.__cause__ or error)
    return None


def is_slot(name, names):
    """Return whether a variable is the step or a slot of any optimizer.

    Args:
        name: str.
        names: container of str, all variables of the checkpoint. The name of a slot is the name of
            its weight, a slash and one more word.
    """
    return bool(NOT_WEIGHTS.search(name)) or name.rpartition("/")[0] in names


def detect_layout(names):
    """Return `albert_zh`, `google`, `bert` or `unknown` for the variables of a model."""
    matches = (layout for layout, mark in LAYOUT_MARKS if any(n.startswith(mark) for n in names))
    return next(matches, UNKNOWN)


def model_names(stored_names):
    """Return the model's names of a checkpoint's variables: dict of stored name to name.

    Scopes around the whole model are left out, and LayerNorm of Keras gets its published name:
    `model/bert/encoder/layer_0/output/layer_normalization_2/gamma` is
    `bert/encoder/layer_0/output/LayerNorm/gamma`.
    """
    plain = {stored: _replaced(OBJECT_NAMES, stored) for stored in stored_names}
    matches = filter(None, map(OUTER_SCOPES.match, plain.values()))
    outer = min((match.group(1) for match in matches), key=len, default="")
    for stored, name in plain.items():
        if name.startswith(outer):
            plain[stored] = name[len(outer) :]
    numbers = {}  # scope -> numbers of its LayerNorms
    for name in plain.values():
        for match in KERAS_NORM.finditer(name):
            numbers.setdefault(name[: match.start()], set()).add(int(match.group(1) or 0))

    def published(match):
        place = sorted(numbers[match.string[: match.start()]]).index(int(match.group(1) or 0))
        return "/LayerNorm_{}/".format(place) if place else "/LayerNorm/"

    return {stored: KERAS_NORM.sub(published, name) for stored, name in plain.items()}


def _replaced(replacements, text):
    for pattern, replacement in replacements:
        text = re.sub(pattern, replacement, text)
    return text
