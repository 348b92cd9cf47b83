"""Checkpoints of either layout: find them, name their layout, restore with a full report."""

import os
import re
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from common import files
from common.errors import UserError

# What a name has in one published layout and in no other. The first that is found counts.
LAYOUT_MARKS = (
    ("albert_zh", "word_embeddings_2"),
    ("google", "encoder/transformer/group_"),
    ("bert", "encoder/layer_0/"),
    ("albert_zh", "encoder/layer_shared/"),
)
UNKNOWN = "unknown"
# Layout -> what to use with it.
CONFIGS_OF = {
    "albert_zh": "a config of layout 'albert_zh'",
    "google": "a config of layout 'google'",
    "bert": "one whose embedding_size is null and parameter_sharing 'none'",
}

# (pattern, replacement) from names of published checkpoints to names of the model.
RENAMES = ((r"^module/", ""),)

# Not weights of a model: quietly passed over.
NOT_WEIGHTS = re.compile(
    r"(^|/)(global_step|loss_scale|good_steps|beta[12]_power|adam|lamb|momentum)(_[mv])?(_\d+)?$",
    re.IGNORECASE,
)

# Tables whose length may differ: their last rows are of no use to a model of shorter sequences...
POSITION_TABLES = re.compile(r"/position_embeddings$")
# ...and a vocabulary may have got new pieces, if the user says so.
VOCABULARY_TABLES = re.compile(r"/embeddings/word_embeddings$|^cls/predictions/output_bias$")

FOREIGN_SUFFIXES = (".bin", ".pt", ".pth", ".safetensors", ".h5", ".msgpack", ".zip", ".tar.gz")
HUGGINGFACE_FILES = ("model.safetensors", "pytorch_model.bin")
# What TensorFlow calls the file that names a folder's checkpoints.
STATE = "checkpoint"
REPLICA_SUFFIX = re.compile(r"/replica_\d+$")
PART_SUFFIX = re.compile(r"\.(meta|index|data-\d{5}-of-\d{5})$")


class RestorePlan(NamedTuple):
    """Which variables a checkpoint gives: names of the model unless said otherwise."""

    assignment: dict  # name in the checkpoint -> name in the model
    missing: list  # of the model, not in the checkpoint
    unused: list  # names in the checkpoint, not in the model
    unequal: list  # (name, shape in the checkpoint, shape in the model)
    resized: dict  # those of `assignment` whose tables are of another length


def find_checkpoint(path):
    """Return the prefix of the checkpoint that a flag names.

    Args:
        path: str, a prefix such as `albert_base_zh/bert_model.ckpt`, or a folder with one.

    Returns:
        str, the prefix.

    Raises:
        UserError: says what was found instead and what to give.
    """
    files.refuse_pattern(path)
    if tf.io.gfile.exists(path + ".index"):
        return path
    if tf.io.gfile.isdir(path):
        return _only_checkpoint(path)
    if os.path.basename(path) == STATE and tf.io.gfile.exists(path):
        raise UserError(
            "{} only names the checkpoints of its folder: give the folder or a prefix".format(path)
        )
    if PART_SUFFIX.search(path):
        prefix = PART_SUFFIX.sub("", path)
        raise UserError("{} is one file of a checkpoint: give the prefix {}".format(path, prefix))
    if path.endswith(FOREIGN_SUFFIXES):
        raise UserError(
            "{} is no TensorFlow checkpoint: give the prefix of one (files PREFIX.index and "
            "PREFIX.data-*); convert_checkpoint.py from-huggingface makes one of a Hugging Face "
            "folder".format(path)
        )
    data = files.glob(path + ".data-*")
    if data:
        raise UserError(
            "{0} is half a checkpoint: {1} is there, {0}.index is not".format(path, data[0])
        )
    raise UserError(
        "no checkpoint at {0}: the file {0}.index does not exist (to train from random weights, "
        "leave the flag out)".format(path)
    )


def latest(folder):
    """Return the prefix that the state file of a folder names, or None where it is of no use."""
    try:
        return tf.train.latest_checkpoint(folder)
    except ValueError:  # no text
        return None


def _only_checkpoint(folder):
    named = latest(folder)
    if named:
        return named
    found = files.glob(folder.rstrip("/") + "/*.index")
    if len(found) == 1:
        return found[0][: -len(".index")]
    foreign = [name for name in HUGGINGFACE_FILES if files.exists(os.path.join(folder, name))]
    if foreign and not found:
        raise UserError(
            "{0} is a model of Hugging Face ({1}): python convert_checkpoint.py from-huggingface "
            "{0} --output_dir=... makes a TensorFlow checkpoint of it".format(folder, foreign[0])
        )
    raise UserError(
        "{}: {} checkpoints in this folder: give the prefix of one".format(
            folder, len(found) or "no"
        )
    )


def read_shapes(prefix):
    """Return a dict of variable name to shape (list of int) of a checkpoint.

    Raises:
        UserError: if its index is damaged.
    """
    try:
        return tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(
            "{} is not a readable checkpoint: {}".format(prefix, str(error).split("\n")[0])
        ) from error


def is_slot(name, names):
    """Tell whether a variable is the step or a slot, whatever an optimizer calls it.

    Args:
        name: str.
        names: container of str, all variables of the checkpoint: a slot is under its weight.
    """
    return bool(NOT_WEIGHTS.search(name)) or name.rpartition("/")[0] in names


def detect_layout(names):
    """Return `albert_zh`, `google`, `bert` or `unknown` for the variable names of a checkpoint."""
    for layout, mark in LAYOUT_MARKS:
        if any(mark in name for name in names):
            return layout
    return UNKNOWN


def shapes_of(variables):
    """Return a dict of name to shape (list of int) of a list of tf.Variable.

    The variables of further replicas have the names of the first ones, under which they are saved.
    """
    return {_saved_name(variable): variable.shape.as_list() for variable in variables}


def _saved_name(variable):
    return REPLICA_SUFFIX.sub("", variable.op.name)


def plan_restore(shapes, prefix, fewer_positions=False, more_pieces=False):
    """Match the model's variables with those of a checkpoint, by name and shape.

    Args:
        shapes: dict of name to shape (list of int) of the model's variables.
        prefix: str, of the checkpoint.
        fewer_positions, more_pieces: bool, whether the model's tables may be shorter or longer.

    Returns:
        `RestorePlan`.
    """
    assignment, unused, unequal, resized = {}, [], [], {}
    stored_shapes = read_shapes(prefix)
    for stored_name, shape in sorted(stored_shapes.items()):
        name = rename(stored_name)
        if name not in shapes:
            if not is_slot(stored_name, stored_shapes):
                unused.append(stored_name)
        elif list(shape) == shapes[name]:
            assignment[stored_name] = name
        else:
            is_fewer = _is_shorter(POSITION_TABLES, name, shapes[name], shape)
            is_more = _is_shorter(VOCABULARY_TABLES, name, shape, shapes[name])
            if (is_fewer and fewer_positions) or (is_more and more_pieces):
                resized[stored_name] = name
            else:
                unequal.append((name, list(shape), shapes[name]))
    assignment.update(resized)
    given = set(assignment.values()).union(name for name, _, _ in unequal)
    return RestorePlan(assignment, sorted(set(shapes) - given), unused, unequal, resized)


def _is_shorter(tables, name, shape, other):
    """Tell whether a variable is one of some tables, and one shape of it has fewer rows."""
    same_width = list(shape[1:]) == list(other[1:])
    return bool(tables.search(name)) and same_width and shape[0] < other[0]


def warm_start(variables, prefix, new_variables=None, allow_missing=False):
    """Make variables start from a checkpoint's weights; call it where the graph is built.

    Args:
        variables: list of tf.Variable, the trainable ones.
        prefix, new_variables, allow_missing: as `check_warm_start`.

    Returns:
        `RestorePlan`, which is also logged.

    Raises:
        UserError: as `check_warm_start`.
    """
    plan = check_warm_start(shapes_of(variables), prefix, new_variables, allow_missing)
    log_restore(plan, prefix)
    by_name = {_saved_name(variable): variable for variable in variables}
    assignment = {stored: by_name[name] for stored, name in plan.assignment.items()}
    tf.train.init_from_checkpoint(prefix, assignment)
    return plan


def check_warm_start(
    shapes,
    prefix,
    new_variables=None,
    allow_missing=False,
    fewer_positions=False,
    more_pieces=False,
):
    """Hold a checkpoint against the model that is to start from its weights.

    Args:
        shapes: dict of name to shape (list of int) of the model's weights.
        prefix: str, of the checkpoint.
        new_variables: str, pattern of names that a checkpoint need not have (a new head), or None.
        allow_missing: bool; variables that the checkpoint lacks keep their random start, and so do
            new ones that have another shape in it.
        fewer_positions, more_pieces: as `plan_restore`.

    Returns:
        `RestorePlan`.

    Raises:
        UserError: for a checkpoint that is damaged, of another layout, of other shapes, with more
            layers, or without some of the variables.
    """
    plan = plan_restore(shapes, prefix, fewer_positions, more_pieces)
    _check_layouts(shapes, prefix)
    check_whole(prefix)
    _check_types(plan.assignment, prefix)
    is_new = re.compile(new_variables or r"(?!)").search  # by default nothing is
    if allow_missing:
        replaced = [name for name, _, _ in plan.unequal if is_new(name)]
        plan = plan._replace(
            unequal=[odd for odd in plan.unequal if odd[0] not in replaced],
            missing=sorted(plan.missing + replaced),
        )
    _check_shapes(plan.unequal, prefix, is_new)
    beyond = [name for name in plan.unused if "bert/encoder/" in name]
    if beyond:
        raise UserError(
            "{} has {} variables of layers that the model lacks, {} first: use the config that "
            "belongs to the checkpoint".format(prefix, len(beyond), beyond[0])
        )
    absent = [name for name in plan.missing if not is_new(name)]
    if absent and not allow_missing:
        raise UserError(
            "{} lacks {} of the model's variables, {} first: use the config that belongs to it, "
            "or, to train, --allow_missing=True to start them at random".format(
                prefix, len(absent), absent[0]
            )
        )
    return plan


def _check_shapes(unequal, prefix, is_new):
    if not unequal:
        return
    name, stored, wanted = unequal[0]
    remedies = []
    if any(is_new(odd[0]) for odd in unequal):
        remedies.append("it classifies other labels; --allow_missing=True starts a new head")
    rest = [odd for odd in unequal if not is_new(odd[0])]
    if rest:
        remedies.append("use the config that belongs to the checkpoint")
    if rest and all(_is_shorter(VOCABULARY_TABLES, *odd) for odd in rest):
        remedies.append("or --allow_vocab_resize=True to start the new pieces at random")
    raise UserError(
        "{}: {} has shape {} but the model's has {} ({} variables differ): {}".format(
            prefix, name, stored, wanted, len(unequal), ", ".join(remedies)
        )
    )


def _check_types(names, prefix):
    types = tf.train.load_checkpoint(prefix).get_variable_to_dtype_map()
    odd = [name for name in sorted(names) if types[name] != tf.float32]
    if odd:
        raise UserError(
            "{}: {} is {}, weights are float32 here: convert_checkpoint.py slim makes them "
            "so".format(prefix, odd[0], types[odd[0]].name)
        )


def _check_layouts(shapes, prefix):
    stored = detect_layout(read_shapes(prefix))
    model = detect_layout(shapes)
    if stored == UNKNOWN:
        raise UserError("{} holds no ALBERT: it has none of its variables".format(prefix))
    if stored != model:
        raise UserError(
            "{} is a checkpoint of layout {!r} but the config describes a model of layout {!r}: "
            "use {}".format(prefix, stored, model, CONFIGS_OF[stored])
        )


def check_same_run(shapes, prefix, output_dir):
    """Hold a run's own checkpoint against the model and optimizer that are to go on from it.

    Args:
        shapes: dict of name to shape (list of int), of all that the checkpoint should hold.
        prefix: str, of the checkpoint.
        output_dir: str, its folder, for messages.

    Returns:
        `RestorePlan`.

    Raises:
        UserError: if the checkpoint is of another model or optimizer.
    """
    plan = plan_restore(shapes, prefix)
    weights = [name for name in plan.missing if not NOT_WEIGHTS.search(name)]
    if weights or plan.unequal:
        odd = weights[0] if weights else "{} (shape {} instead of {})".format(*plan.unequal[0])
        raise UserError(
            "{} holds a checkpoint of another model, {} does not fit: give another --output_dir "
            "or the config that it was made with".format(output_dir, odd)
        )
    if plan.missing:
        raise UserError(
            "{} holds a checkpoint of another optimizer, without {}: give the --optimizer and the "
            "--precision that it was made with, or another --output_dir and "
            "--init_checkpoint={}".format(output_dir, plan.missing[0], prefix)
        )
    return plan


def log_restore(plan, prefix):
    """Log how many variables a checkpoint gives, and the names of those that do not fit."""
    tf.logging.info(
        "Restoring %s: %d variables loaded, %d missing, %d unused",
        prefix,
        len(plan.assignment),
        len(plan.missing),
        len(plan.unused),
    )
    for name in plan.missing:
        tf.logging.info("  missing, starts at random: %s", name)
    for name in plan.unused:
        tf.logging.info("  unused, only in the checkpoint: %s", name)


def rename(name):
    """Return what a variable of a published checkpoint is called in the model."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def count_weights(prefix):
    """Return the number of a checkpoint's weights, those of the optimizer left out."""
    shapes = read_shapes(prefix)
    return sum(int(np.prod(shapes[name])) for name in shapes if not is_slot(name, shapes))


def find_damage(prefix):
    """Read a whole checkpoint; returns what is wrong with it in one line, or None."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)  # checks length and checksum
    except (tf.errors.OpError, RuntimeError, ValueError, LookupError) as error:
        return str(error).strip().split("\n")[0]
    return None


def check_whole(prefix):
    """Raise a `UserError` where anything in a checkpoint is damaged."""
    damage = find_damage(prefix)
    if damage:
        raise UserError("{} is damaged ({}): fetch or make it again".format(prefix, damage))
