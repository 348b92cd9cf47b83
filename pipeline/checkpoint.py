"""Checkpoints of either layout: find them, name their layout, restore with a full report."""

import re
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from pipeline.errors import UserError

# What a name has in one published layout and in no other. The first that is found counts.
LAYOUT_MARKS = (
    ("albert_zh", "word_embeddings_2"),
    ("google", "encoder/transformer/group_"),
    ("bert", "encoder/layer_0/"),
    ("albert_zh", "encoder/layer_shared/"),
)

# (pattern, replacement) from names of published checkpoints to names of the model.
RENAMES = ((r"^module/", ""),)

# Not weights of a model: quietly passed over.
NOT_WEIGHTS = re.compile(r"(^|/)(global_step|adam_[mv]|lamb_[mv]|beta[12]_power|Adam(_1)?)$")

FOREIGN_SUFFIXES = (".bin", ".pt", ".pth", ".safetensors", ".h5", ".msgpack", ".zip", ".tar.gz")
PART_SUFFIX = re.compile(r"\.(meta|index|data-\d{5}-of-\d{5})$")


class RestorePlan(NamedTuple):
    """Which variables a checkpoint gives: names of the model unless said otherwise."""

    assignment: dict  # name in the checkpoint -> variable of the model
    missing: list  # of the model, not in the checkpoint
    unused: list  # names in the checkpoint, not in the model
    unequal: list  # (name, shape in the checkpoint, shape in the model)


def find_checkpoint(path):
    """Return the prefix of the checkpoint that a flag names.

    Args:
        path: str, a prefix such as `albert_base_zh/bert_model.ckpt`, or a folder with one.

    Returns:
        str, the prefix.

    Raises:
        UserError: says what was found instead and what to give.
    """
    if tf.io.gfile.exists(path + ".index"):
        return path
    if tf.io.gfile.isdir(path):
        return _only_checkpoint(path)
    if PART_SUFFIX.search(path):
        prefix = PART_SUFFIX.sub("", path)
        raise UserError("{} is one file of a checkpoint: give the prefix {}".format(path, prefix))
    if path.endswith(FOREIGN_SUFFIXES):
        raise UserError(
            "{} is no TensorFlow checkpoint: give the prefix of one (files PREFIX.index and "
            "PREFIX.data-*)".format(path)
        )
    raise UserError(
        "no checkpoint at {0}: the file {0}.index does not exist (leave the flag out to start "
        "from random weights)".format(path)
    )


def _only_checkpoint(folder):
    latest = tf.train.latest_checkpoint(folder)
    if latest:
        return latest
    found = tf.io.gfile.glob(folder.rstrip("/") + "/*.index")
    if len(found) == 1:
        return found[0][: -len(".index")]
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


def detect_layout(names):
    """Return `albert_zh`, `google`, `bert` or `unknown` for the variable names of a checkpoint."""
    for layout, mark in LAYOUT_MARKS:
        if any(mark in name for name in names):
            return layout
    return "unknown"


def plan_restore(variables, prefix):
    """Match the model's variables with those of a checkpoint, by name and shape.

    Args:
        variables: list of tf.Variable.
        prefix: str, of the checkpoint.

    Returns:
        `RestorePlan`.
    """
    model = {variable.op.name: variable for variable in variables}
    assignment, unused, unequal = {}, [], []
    for stored_name, shape in sorted(read_shapes(prefix).items()):
        name = _rename(stored_name)
        if name not in model:
            if not NOT_WEIGHTS.search(stored_name):
                unused.append(stored_name)
        elif list(shape) != model[name].shape.as_list():
            unequal.append((name, list(shape), model[name].shape.as_list()))
        else:
            assignment[stored_name] = model[name]
    given = {variable.op.name for variable in assignment.values()}
    given.update(name for name, _, _ in unequal)
    return RestorePlan(assignment, sorted(set(model) - given), unused, unequal)


def warm_start(variables, prefix, new_variables=None, allow_missing=False):
    """Make variables start from a checkpoint's weights; call it where the graph is built.

    Args:
        variables: list of tf.Variable, the trainable ones.
        prefix: str, of the checkpoint.
        new_variables: str, pattern of names that a checkpoint need not have (a new head), or None.
        allow_missing: bool; variables that the checkpoint lacks keep their random start.

    Returns:
        `RestorePlan`, which is also logged.

    Raises:
        UserError: for a checkpoint of another layout, other shapes or missing variables.
    """
    plan = plan_restore(variables, prefix)
    _check_layouts(variables, prefix)
    if plan.unequal:
        name, stored, wanted = plan.unequal[0]
        raise UserError(
            "{}: {} has shape {} but the model's has {} ({} variables differ): use the config "
            "that belongs to the checkpoint".format(prefix, name, stored, wanted, len(plan.unequal))
        )
    absent = [
        name for name in plan.missing if not (new_variables and re.search(new_variables, name))
    ]
    log_restore(plan, prefix)
    if absent and not allow_missing:
        raise UserError(
            "{} lacks {} of the model's variables, {} first: use the config that belongs to it, "
            "or --allow_missing=True to start them at random".format(prefix, len(absent), absent[0])
        )
    tf.train.init_from_checkpoint(prefix, plan.assignment)
    return plan


def _check_layouts(variables, prefix):
    stored = detect_layout(read_shapes(prefix))
    model = detect_layout([variable.op.name for variable in variables])
    if stored != model:
        raise UserError(
            "{} is a checkpoint of layout {!r} but --bert_config_file describes a model of layout "
            "{!r}: use a config of layout {!r}".format(prefix, stored, model, stored)
        )


def check_same_model(variables, prefix, output_dir):
    """Hold a run's own checkpoint against the model that is to go on from it.

    Raises:
        UserError: if the checkpoint is of another model.
    """
    plan = plan_restore(variables, prefix)
    if plan.missing or plan.unequal:
        odd = (
            plan.missing[0]
            if plan.missing
            else "{} (shape {} instead of {})".format(*plan.unequal[0])
        )
        raise UserError(
            "{} holds a checkpoint of another model, {} does not fit: give another --output_dir "
            "or the config that it was made with".format(output_dir, odd)
        )


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


def _rename(name):
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name
