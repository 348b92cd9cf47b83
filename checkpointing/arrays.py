"""Checkpoints as arrays: read, write, average, and fit to tables of another length."""

import os

import numpy as np
import tensorflow.compat.v1 as tf

from checkpointing import restore
from checkpointing.checkpoint_reader import Checkpoint
from common.errors import UserError

# Standard deviation of the random rows of new pieces: the published initializer_range.
NEW_ROWS_DEVIATION = 0.02
# Subfolder of a run's folder. It holds the start checkpoint after `fit` changed its tables.
FITTED = "fitted_init"


def read(prefix):
    """Return the weights of a checkpoint, without the step and the optimizer's slots.

    Weights of half precision become float32, the type of all weights here.

    Args:
        prefix: str.

    Returns:
        dict from a variable's name in the model to its array; sorted by the stored names.

    Raises:
        UserError: where a weight is damaged.
    """
    checkpoint = Checkpoint(prefix)
    names = checkpoint.names
    return {names[name]: checkpoint.read_weight(name) for name in checkpoint.weight_names()}


def as_float16(array, name):
    """Return a weight in half precision; an array of integers as it is.

    Raises:
        UserError: for a weight beyond the largest number of float16; it names the variable.
    """
    if array.dtype.kind != "f":
        return array
    largest = float(np.abs(array).max(initial=0))
    if largest > np.finfo(np.float16).max:
        raise UserError(
            "{}: {:.3g} is too large for float16: leave --float16 out".format(name, largest)
        )
    return array.astype(np.float16)


def write(prefix, arrays):
    """Write a checkpoint, and make its folder where there is none.

    Args:
        prefix: str; an older checkpoint of this name is replaced.
        arrays: dict of variable name to array.
    """
    tf.io.gfile.makedirs(os.path.dirname(prefix) or ".")
    names = sorted(arrays)
    with tf.Graph().as_default():
        fed = [tf.placeholder(arrays[name].dtype, arrays[name].shape) for name in names]
        save = tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=fed
        )
        with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
            session.run(save, {place: arrays[name] for place, name in zip(fed, names)})


def average(prefixes):
    """Return the mean of the weights of several checkpoints, summed in float64.

    Args:
        prefixes: list of str.

    Raises:
        UserError: where the names or the shapes of their variables differ.
    """
    first = read(prefixes[0])
    sums = {name: array.astype(np.float64) for name, array in first.items()}
    for prefix in prefixes[1:]:
        arrays = read(prefix)
        odd = sorted(set(arrays) ^ set(sums)) or [
            name for name in arrays if arrays[name].shape != sums[name].shape
        ]
        if odd:
            raise UserError(
                "{} and {} are not of one model: {} differs".format(prefixes[0], prefix, odd[0])
            )
        for name, array in arrays.items():
            sums[name] += array
    return {name: (sums[name] / len(prefixes)).astype(first[name].dtype) for name in sums}


def fit(shapes, prefix, output_dir, may_resize=(restore.FEWER_POSITIONS,)):
    """Give the tables of a checkpoint the lengths that the model's tables have.

    Weights of another precision become float32. If the model has fewer positions, the position
    table loses its last rows. If the model has more positions, the table gets copies of its rows,
    as in Longformer (arXiv 2004.05150, section 5). The rows have learned attention to neighbours,
    which is wrong only where two copies meet. Word embeddings get new rows, which are random as at
    the start of a training, and the MLM bias gets zeros.

    Args:
        shapes: dict of name to shape (list of int) of the model's weights.
        prefix: str.
        output_dir: str, folder of the run, which gets the changed copy.
        may_resize: names of `restore.RESIZES` that are allowed.

    Returns:
        str, the prefix of the copy; the given prefix if nothing has to change.
    """
    checkpoint = Checkpoint(prefix)
    resized = restore.plan_restore(shapes, checkpoint, may_resize).resized
    if not resized and checkpoint.is_float32():
        return prefix
    arrays = read(prefix)
    rng = np.random.RandomState(0)
    for name in sorted(resized.values()):
        stored, wanted = len(arrays[name]), shapes[name][0]
        if wanted < stored:
            change, arrays[name] = "the last are left out", arrays[name][:wanted]
        elif restore.POSITION_TABLES.search(name):
            change, arrays[name] = "they are repeated", np.resize(arrays[name], shapes[name])
        else:
            change, arrays[name] = "the new are random", _with_rows(arrays[name], wanted, rng)
        line = "%s: %s has %d rows, the model's %d: %s"
        tf.logging.warning(line, prefix, name, stored, wanted, change)
    target = os.path.join(output_dir, FITTED, os.path.basename(prefix))
    write(target, arrays)
    return target


def _with_rows(table, number, rng):
    new = np.zeros((number - len(table),) + table.shape[1:], table.dtype)
    if table.ndim > 1:
        new[:] = rng.normal(0.0, NEW_ROWS_DEVIATION, new.shape)
    return np.concatenate([table, new])
