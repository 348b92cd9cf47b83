"""Scales the last layer of a pre-LN model to about unit size, and removes the pooler.

    python recipes/rescale.py --checkpoint=out/pretrained --scale=0.08 --output_dir=out/start

In a pre-LN model the sublayers add their outputs to a sum that no LayerNorm bounds. A large
learning rate makes the sum so large that the pooler's tanh is 1 or -1 for any text, and a
classifier on it learns nothing. This script multiplies all weights that add to the sum by `scale`.
LayerNorm cancels the factor; the head for masked pieces has none, so its kernel is divided by
`scale`: the model still predicts the same pieces. The pooler is removed and starts at random:
give --allow_missing=True to run_classifier.py.
"""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from checkpointing import model_files, restore
from checkpointing.arrays import read, write
from common import cli, files
from common.errors import UserError

# Weights whose outputs are added to the sum, and weights that read it without LayerNorm.
ADDS = re.compile(r"^bert/embeddings/LayerNorm/|^bert/encoder/layer_\w+/(attention/)?output/dense/")
READS = re.compile(r"^cls/predictions/transform/dense/kernel$")
POOLER = re.compile(r"^bert/pooler/|^cls/seq_relationship/")


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("checkpoint", None, "Checkpoint of a pre-LN model of layout albert_zh.")
    define.float("scale", 0.08, "Factor of the sum.")
    define.validator("scale", lambda scale: 0 < scale < float("inf"), "give a number above 0")
    define.string("output_dir", None, "Folder to make, for the new checkpoint.")


def main(args):
    """Write the new checkpoint."""
    if not args.checkpoint or not args.output_dir:
        raise UserError("give --checkpoint and --output_dir")
    prefix = restore.find_checkpoint(args.checkpoint)
    arrays = read(prefix)
    check_model(prefix, arrays)
    with files.whole_folder(args.output_dir.rstrip("/")) as folder:
        write(os.path.join(folder, "model.ckpt"), rescaled(arrays, args.scale))


def check_model(prefix, arrays):
    """Raise `UserError` for a model that the factor would change: it is not pre-LN albert_zh."""
    path = model_files.find(prefix, model_files.CONFIG)
    ln_type = files.read_json(path).get("ln_type") if path else "preln"  # no variable shows it
    has_layers = any(name.startswith("bert/encoder/layer_") for name in arrays)
    if ln_type != "preln" or not has_layers:
        raise UserError(
            "{} is not a pre-LN model of layout albert_zh{}: give it to run_classifier.py as it "
            "is".format(prefix, ", according to " + path if path and has_layers else "")
        )


def rescaled(arrays, scale):
    """Return the weights of a pre-LN model whose sum is multiplied by `scale`, without pooler.

    Args:
        arrays: dict of variable name to array.
        scale: float.
    """
    factors = {name: scale for name in arrays if ADDS.search(name)}
    factors.update((name, 1 / scale) for name in arrays if READS.search(name))
    return {
        name: (array * factors.get(name, 1)).astype(array.dtype)
        for name, array in arrays.items()
        if not POOLER.search(name)
    }


if __name__ == "__main__":
    cli.run(main, define_flags)
