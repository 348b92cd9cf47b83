"""Compares a checkpoint of either layout with a model, and restores the model from it."""

import dataclasses
import difflib
import re
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from checkpointing.checkpoint_reader import (
    NOT_WEIGHTS,
    Checkpoint,
    detect_layout,
    is_slot,
)
from common.errors import UserError

# Tables with a row for each position, and those with a row for each piece of the vocabulary.
POSITION_TABLES = re.compile(r"/position_embeddings$")
VOCABULARY_TABLES = re.compile(r"/embeddings/word_embeddings$|^cls/predictions/output_bias$")
# The changes of a table's length, from the checkpoint to the model, that a flag can allow.
FEWER_POSITIONS, MORE_POSITIONS, MORE_PIECES = "fewer_positions", "more_positions", "more_pieces"
RESIZES = {  # change -> (pattern of the tables' names, whether the tables grow)
    FEWER_POSITIONS: (POSITION_TABLES, False),
    MORE_POSITIONS: (POSITION_TABLES, True),
    MORE_PIECES: (VOCABULARY_TABLES, True),
}

# The scope of a layer in the encoder.
LAYER = re.compile(r"^bert/encoder/(layer_|transformer/group_)(\d+|shared)/(inner_group_\d+/)?")
# With ln_type preln, classifiers of albert_zh have a LayerNorm after the pooler.
POOLED_NORM = "loss/LayerNorm/gamma"
# Parts that a model has or lacks by its config alone.
DEPENDS_ON_CONFIG = re.compile(r"/(embedding_hidden_mapping_in|word_embeddings_2)\b")
# A variable of a head -> pattern of other variables that change what this head computes. The
# variables of the pre-training heads do not change a classifier.
HEADS = {
    "cls/predictions/output_bias": r"^cls/predictions/",
    "cls/seq_relationship/output_weights": r"^cls/seq_relationship/",
    "output_weights": r"^(?!bert/|cls/(predictions|seq_relationship)/)",
}
# (pattern that all missing variables match, why they are missing whatever the config is)
CAUSES_OF_MISSING = (
    (r"^bert/pooler/", "it was saved without the pooler"),
    (r"^(cls/|output_)", "it was saved without that head"),
    (r"^(bert/pooler/|cls/|output_)", "it was saved without the pooler and that head"),
)
REPLICA_SUFFIX = re.compile(r"/replica_\d+$")


class RestorePlan(NamedTuple):
    """How the variables of a model and of a checkpoint match."""

    assignment: dict  # name in the checkpoint -> name in the model, of all that are loaded
    missing: list  # names of the model's variables that the checkpoint lacks
    unused: list  # names of the checkpoint's weights that the model lacks
    unequal: list  # (name in the model, shape in the checkpoint, shape in the model)
    resized: dict  # the part of `assignment` whose tables have another length in the model


def shapes_of(variables):
    """Return a dict of name to shape (list of int) of a list of tf.Variable.

    Copies on further replicas have the name of the first copy, under which all are saved.
    """
    return {_saved_name(variable): variable.shape.as_list() for variable in variables}


def _saved_name(variable):
    return REPLICA_SUFFIX.sub("", variable.op.name)


# ------------------------------------------------------------------------------ matching


def plan_restore(shapes, checkpoint, may_resize=()):
    """Match the variables of a model and of a checkpoint, by name and shape.

    Args:
        shapes: dict of name to shape (list of int) of the model's variables.
        checkpoint: `Checkpoint`.
        may_resize: names of RESIZES that are allowed.

    Returns:
        `RestorePlan`.
    """
    assignment, unused, unequal, resized = {}, [], [], {}
    for stored_name, shape in sorted(checkpoint.shapes.items()):
        name = checkpoint.names[stored_name]
        if name not in shapes:
            if not is_slot(stored_name, checkpoint.shapes):
                unused.append(stored_name)
        elif list(shape) == shapes[name]:
            assignment[stored_name] = name
        elif any(_is_resized(name, shape, shapes[name], *RESIZES[one]) for one in may_resize):
            resized[stored_name] = name
        else:
            unequal.append((name, list(shape), shapes[name]))
    assignment.update(resized)
    matched = set(assignment.values()).union(name for name, _, _ in unequal)
    return RestorePlan(assignment, sorted(set(shapes) - matched), unused, unequal, resized)


def _is_resized(name, stored, wanted, tables, grows):
    """Return whether one of `tables` is longer in the model than in the checkpoint, or shorter."""
    same_width = list(stored[1:]) == list(wanted[1:])
    is_longer = wanted[0] > stored[0]
    return bool(tables.search(name)) and same_width and is_longer == grows


def check_warm_start(shapes, prefix, *args, **options):
    """Read a whole checkpoint and check that a model can start from its weights.

    Args:
        shapes: dict of name to shape (list of int) of the model's weights.
        prefix: str, of the checkpoint.
        *args, **options: the other arguments of `match_weights`.

    Returns:
        `RestorePlan`.

    Raises:
        UserError: as in `match_weights`, and if anything in the checkpoint is damaged.
    """
    checkpoint = Checkpoint(prefix)
    plan = match_weights(shapes, checkpoint, *args, **options)
    checkpoint.check_whole()
    return plan


def match_weights(
    shapes,
    checkpoint,
    new_variables=None,
    allow_missing=False,
    may_resize=(),
):
    """Check the names, shapes and types in a checkpoint against the model that starts from it.

    Args:
        shapes: dict of name to shape (list of int) of the model's weights.
        checkpoint: `Checkpoint`.
        new_variables: str, pattern of names that a checkpoint need not have (a new head), or None.
        allow_missing: bool; variables that the checkpoint lacks keep their random start, and so do
            new variables that have another shape in the checkpoint.
        may_resize: as in `plan_restore`.

    Returns:
        `RestorePlan`.

    Raises:
        UserError: for a checkpoint of another layout, of other shapes, with more layers, or
            without some of the variables.
    """
    prefix = checkpoint.prefix
    plan = plan_restore(shapes, checkpoint, may_resize)
    check_layouts(shapes, checkpoint)
    _check_types(plan.assignment, checkpoint)
    is_new = re.compile(new_variables or r"(?!)").search  # (?!) matches no name
    if allow_missing:
        replaced = [name for name, _, _ in plan.unequal if is_new(name)]
        plan = plan._replace(
            unequal=[odd for odd in plan.unequal if odd[0] not in replaced],
            missing=sorted(plan.missing + replaced),
        )
    _check_shapes(plan.unequal, prefix, is_new)
    absent = [name for name in plan.missing if not is_new(name)]
    names = [checkpoint.names[name] for name in plan.unused]
    _check_body(names, absent, shapes, prefix)
    _check_heads(names, plan.assignment.values(), prefix)
    if absent and not allow_missing:
        raise UserError(
            "{} lacks {} of the model's variables, {} first: {}".format(
                prefix, len(absent), absent[0], _remedy_for_missing(absent)
            )
        )
    return plan


def _check_body(unused, absent, shapes, prefix):
    """Raise UserError for variables of embeddings, encoder and pooler that the model lacks."""
    beyond = [name for name in unused if name.startswith("bert/")]
    if not beyond:
        return
    parts = {LAYER.sub("", name) for name in shapes}
    foreign = [name for name in beyond if LAYER.sub("", name) not in parts]
    foreign = [name for name in foreign if not DEPENDS_ON_CONFIG.search(name)]
    if foreign:
        near = difflib.get_close_matches(foreign[0], absent or shapes, 1, 0)
        raise UserError(
            "{} has {} variables that no model here has, {} first; the nearest name here is {}: "
            "other code made it, and no config can load it".format(
                prefix, len(foreign), foreign[0], near[0]
            )
        )
    raise UserError(
        "{} has {} variables of layers that the model lacks, {} first: use the config that "
        "belongs to the checkpoint".format(prefix, len(beyond), beyond[0])
    )


def _check_heads(unused, loaded, prefix):
    """Raise UserError for variables of a loaded head that the model's head lacks."""
    for mark, others in HEADS.items():
        odd = [name for name in unused if re.search(others, name)] if mark in loaded else []
        if odd:
            hint = "; ln_type 'preln' has it" if odd[0].startswith("loss/LayerNorm/") else ""
            raise UserError(
                "{} has {}, which the head of this model lacks{}: the outputs would be "
                "wrong".format(prefix, odd[0], hint)
            )


def with_pooled_norm(config, prefixes):
    """Return a config with `pooled_norm` if the classifier in one of the checkpoints has it.

    Args:
        config: `modeling.AlbertConfig`.
        prefixes: iterable of str.
    """
    is_normalized = any(Checkpoint(prefix).holds(POOLED_NORM) for prefix in prefixes)
    is_preln = config.ln_type == "preln"
    return dataclasses.replace(config, pooled_norm=is_preln and is_normalized)


def _remedy_for_missing(absent):
    """Return what to do about variables that a checkpoint lacks."""
    for pattern, cause in CAUSES_OF_MISSING:
        if all(re.search(pattern, name) for name in absent):
            return cause + "; to train, --allow_missing=True gives them random values"
    return (
        "use the config that belongs to it, or, to train, --allow_missing=True to give them "
        "random values"
    )


def _check_shapes(unequal, prefix, is_new):
    if not unequal:
        return
    if all(is_new(odd[0]) for odd in unequal):
        remedy = "it classifies other labels; --allow_missing=True starts a new head"
    else:
        remedy = "use the config that belongs to the checkpoint"
        if all(_is_resized(*odd, *RESIZES[MORE_PIECES]) for odd in unequal):
            remedy += (
                ", or, if the new pieces are the last rows of the vocabulary, "
                "--allow_vocab_resize=True to start them with random weights"
            )
        if all(_is_resized(*odd, *RESIZES[MORE_POSITIONS]) for odd in unequal):
            remedy += ", or --allow_more_positions=True to repeat the rows of the checkpoint"
    tables = [odd for odd in unequal if odd[0].endswith("/word_embeddings")]
    name, stored, wanted = (tables or unequal)[0]
    if tables and stored[1:] != wanted[1:]:
        remedy += ", whose embedding_size is {}".format(stored[1])
    raise UserError(
        "{}: {} has shape {} but the model's has {} ({} variables differ): {}".format(
            prefix, name, stored, wanted, len(unequal), remedy
        )
    )


def _check_types(names, checkpoint):
    odd = [name for name in sorted(names) if not checkpoint.dtypes[name].is_floating]
    if odd:
        raise UserError(
            "{}: {} is {}, not a weight: give another checkpoint".format(
                checkpoint.prefix, odd[0], checkpoint.dtypes[odd[0]].name
            )
        )


def check_layouts(shapes, checkpoint):
    """Raise UserError if a `Checkpoint` has another layout than variables of these shapes."""
    checkpoint.check_known()
    stored, model = detect_layout(checkpoint.names.values()), detect_layout(shapes)
    prefix = checkpoint.prefix
    if stored != model:
        raise UserError(
            "{} is a checkpoint of layout {!r} but the config describes a model of layout {!r}: "
            "use one that `convert_checkpoint.py inspect` names".format(prefix, stored, model)
        )


def check_same_run(shapes, prefix, output_dir, other_optimizer=None):
    """Check a run's own checkpoint against the model and the optimizer that continue from it.

    Args:
        shapes: dict of name to shape (list of int), of all variables that continue.
        prefix: str, of the checkpoint.
        output_dir: str, the run's folder, for messages.
        other_optimizer: str, the optimizer of the run if it is another one, which may have
            variables of the same names; or None.

    Returns:
        `RestorePlan`.

    Raises:
        UserError: if the checkpoint is of another model or optimizer.
    """
    plan = plan_restore(shapes, Checkpoint(prefix))
    weights = [name for name in plan.missing if not NOT_WEIGHTS.search(name)]
    if weights or plan.unequal:
        odd = weights[0] if weights else "{} (shape {} instead of {})".format(*plan.unequal[0])
        raise UserError(
            "{} holds a checkpoint of another model ({} does not fit): give another --output_dir "
            "or the config that it was made with".format(output_dir, odd)
        )
    if plan.missing or other_optimizer:
        odd = "without " + plan.missing[0] if plan.missing else other_optimizer
        raise UserError(
            "{} holds a checkpoint of another optimizer, {}: give the --optimizer and the "
            "--precision that it was made with, or another --output_dir and "
            "--init_checkpoint={}".format(output_dir, odd, prefix)
        )
    return plan


# ----------------------------------------------------------------------------- restoring


def warm_start(variables, prefix, new_variables=None, allow_missing=False):
    """Make variables start from a checkpoint's weights; call it where the graph is built.

    The weights are read when the session initializes the variables.

    Args:
        variables: list of tf.Variable, the trainable ones.
        prefix: str, of a checkpoint that `check_warm_start` has found whole.
        new_variables, allow_missing: as in `match_weights`.

    Returns:
        `RestorePlan`, which is also logged.

    Raises:
        UserError: as in `match_weights`.
    """
    plan = match_weights(shapes_of(variables), Checkpoint(prefix), new_variables, allow_missing)
    log_restore(plan, prefix)
    by_name = {_saved_name(variable): variable for variable in variables}
    assignment = {stored: by_name[name] for stored, name in plan.assignment.items()}
    tf.train.init_from_checkpoint(prefix, assignment)
    return plan


def load_weights(session, checkpoint, unused=None):
    """Give all trainable variables of a session's graph the weights of a checkpoint, at once.

    Unlike `warm_start` it leaves no path of a checkpoint in the graph.

    Args:
        session: `tf.Session`.
        checkpoint: `Checkpoint`.
        unused: str, pattern of the names of variables that the checkpoint may lack; these variables
            become 0. None: the checkpoint may lack no variable.

    Returns:
        `RestorePlan`.

    Raises:
        UserError: as in `check_warm_start`.
    """
    with session.graph.as_default():
        variables = {variable.op.name: variable for variable in tf.trainable_variables()}
    plan = match_weights(shapes_of(variables.values()), checkpoint, unused)
    # One session run loads all weights: each new set of fetches costs a pass over the whole graph.
    initializers = {stored: variables[name].initializer for stored, name in plan.assignment.items()}
    values = {op.inputs[1]: checkpoint.read_weight(name) for name, op in initializers.items()}
    for name in plan.missing:
        initializers[name] = variables[name].initializer
        values[initializers[name].inputs[1]] = np.zeros(variables[name].shape.as_list())
    session.run(list(initializers.values()), values)
    return plan


def log_restore(plan, prefix):
    """Log how many variables a checkpoint gives, and the names of those that do not match."""
    numbers = [len(names) for names in (plan.assignment, plan.missing, plan.unused)]
    tf.logging.info("Restoring %s: %d variables loaded, %d missing, %d unused", prefix, *numbers)
    for name in plan.missing:
        tf.logging.info("  missing, not loaded: %s", name)
    for name in plan.unused:
        tf.logging.info("  unused, only in the checkpoint: %s", name)
