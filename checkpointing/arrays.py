"""Checkpoints as arrays: read, write, slim, average, and fit to tables of another length."""

import os

import numpy as np
import tensorflow.compat.v1 as tf

from checkpointing import restore
from common import files
from common.errors import UserError

# Deviation of the rows that a vocabulary grows by: the published initializer_range.
NEW_ROWS_DEVIATION = 0.02
# Folder, within that of a run, of a checkpoint whose tables were fitted to the model's.
FITTED = "fitted_init"


def read(prefix):
    """Return the weights of a checkpoint, those of the optimizer and the step left out.

    Numbers of half precision become float32, as which everything here is computed.

    Args:
        prefix: str.

    Returns:
        dict of variable name, as the model has it, to array; sorted by the stored name.

    Raises:
        UserError: where the checkpoint is damaged.
    """
    restore.check_whole(prefix)
    reader = tf.train.load_checkpoint(prefix)
    names = weight_names(reader.get_variable_to_shape_map())
    return {restore.rename(name): _widened(reader.get_tensor(name)) for name in names}


def _widened(array):
    is_half = array.dtype.itemsize == 2 and array.dtype.kind in "fV"  # float16, bfloat16
    return array.astype(np.float32) if is_half else array


def weight_names(names):
    """Return those of a checkpoint's names that are of weights, a sorted list."""
    return sorted(name for name in names if not restore.is_slot(name, names))


def write(prefix, arrays):
    """Write a checkpoint; the folder is made where it does not exist.

    Args:
        prefix: str; files of that name are replaced.
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
        UserError: where their variables or shapes differ.
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


def fit(shapes, prefix, output_dir, allow_vocab_resize=False):
    """Return the prefix of a checkpoint whose tables have the lengths of the model's.

    Position tables lose their last rows. A vocabulary gets new ones, random as at the start of a
    training, and MLM biases of 0. Where all fits already, it is the checkpoint itself; otherwise a
    copy in the folder of the run.

    Args:
        shapes: dict of name to shape (list of int) of the model's weights.
        prefix: str.
        output_dir: str, of the run.
        allow_vocab_resize: bool.
    """
    resized = restore.plan_restore(shapes, prefix, True, allow_vocab_resize).resized
    if not resized:
        return prefix
    arrays = read(prefix)
    rng = np.random.RandomState(0)
    for name in sorted(resized.values()):
        number = shapes[name][0]
        tf.logging.warning(
            "%s: %s has %d rows, the model's %d: %s",
            prefix,
            name,
            len(arrays[name]),
            number,
            "the last are left out" if number < len(arrays[name]) else "the new are random",
        )
        arrays[name] = _with_rows(arrays[name], number, rng)
    target = os.path.join(output_dir, FITTED, os.path.basename(prefix))
    write(target, arrays)
    return target


def _with_rows(table, number, rng):
    new = np.zeros((max(number - len(table), 0),) + table.shape[1:], table.dtype)
    if table.ndim > 1:
        new[:] = rng.normal(0.0, NEW_ROWS_DEVIATION, new.shape)
    return np.concatenate([table[:number], new])


def size_on_disk(prefix):
    """Return the bytes of a checkpoint's files."""
    paths = files.glob(prefix + ".data-*") + [prefix + ".index"]
    return sum(files.size(path) for path in paths)
