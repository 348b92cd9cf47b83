"""The outputs of a model for all rows of a split."""

import numpy as np

from common import progress


def predict(trainer, input_fn, num_rows, checkpoint_path=None):
    """Return the outputs of rows in their order: dict of name to array [rows, ...].

    Where the second dimension of an output is the number of pieces, it differs between batches, and
    zeros fill up the shorter outputs.

    Args:
        trainer: `trainer.Trainer` whose model returns a dict of outputs [b, ...], among them
            `row_index` [b], which is negative for a row that fills up the last batch.
        input_fn: as `batching.make_input_fn` makes it, not for training.
        num_rows: int.
        checkpoint_path: str, a checkpoint of the run's own, or None for the one that the model
            starts from.
    """
    batches = trainer.predict(
        input_fn, checkpoint_path=checkpoint_path, yield_single_examples=False
    )
    return in_order(_shown(batches, num_rows), num_rows)


def _shown(batches, num_rows):
    """Yield the batches of `in_order`, and log how many rows they have so far."""
    done, show = 0, progress.Lines("rows predicted")
    for batch in batches:
        yield batch
        done += np.count_nonzero(batch["row_index"] >= 0)
        show(done, num_rows)


def in_order(batches, num_rows):
    """Return the outputs of rows in their order from batches of some rows, as `predict` does.

    Args:
        batches: iterable of dicts of name to array [b, ...], `row_index` among them.
        num_rows: int.
    """
    batches = list(batches)
    index = np.concatenate([batch["row_index"] for batch in batches])
    is_real = index >= 0
    if sorted(index[is_real]) != list(range(num_rows)):
        raise RuntimeError("{} predictions for {} rows".format(is_real.sum(), num_rows))
    places = np.flatnonzero(is_real)[np.argsort(index[is_real])]
    names = [name for name in batches[0] if name != "row_index"]
    # `pop` frees an output's batches early; otherwise they would be a third copy in memory.
    return {name: _concatenated([batch.pop(name) for batch in batches])[places] for name in names}


def _concatenated(arrays):
    """Return one array of several; zeros fill up a second dimension that is not the longest."""
    if arrays[0].ndim < 2:
        return np.concatenate(arrays)
    longest = max(array.shape[1] for array in arrays)
    total = np.zeros((sum(map(len, arrays)), longest) + arrays[0].shape[2:], arrays[0].dtype)
    begin = 0
    for array in arrays:
        total[begin : begin + len(array), : array.shape[1]] = array
        begin += len(array)
    return total
