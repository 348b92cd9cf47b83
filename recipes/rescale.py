"""A step of the recipes: make a pre-LN model's last layer of about unit size, and its pooler new.

    python recipes/rescale.py --checkpoint=out/pretrained --scale=0.08 --output_dir=out/start

With layers normalized before each sublayer nothing bounds the sum that they add to. A large
learning rate makes it so large that the pooler's tanh is 1 or -1 for any text: a classifier on it
can learn nothing. What is added, and what it is added to, is multiplied by `scale`; whatever
normalizes its input does not notice, and the head for masked pieces, which does not, is divided by
it: the model still predicts the same pieces. The pooler is left out, to start at random:
give --allow_missing=True to run_classifier.py.
"""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from checkpointing import restore
from checkpointing.arrays import read, write
from common import cli
from common.errors import UserError

# What is added to the sum, and what reads the sum without normalizing it.
ADDS = re.compile(r"^bert/embeddings/LayerNorm/|^bert/encoder/layer_\w+/(attention/)?output/dense/")
READS = re.compile(r"^cls/predictions/transform/dense/kernel$")
POOLER = re.compile(r"^bert/pooler/|^cls/seq_relationship/")


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("checkpoint", None, "Of a pre-LN model of layout albert_zh.")
    define.float("scale", 0.08, "What the sum is multiplied by.")
    define.string("output_dir", None, "Folder for the new checkpoint.")


def main(args):
    """Write the new checkpoint."""
    if not args.checkpoint or not args.output_dir:
        raise UserError("give --checkpoint and --output_dir")
    arrays = read(restore.find_checkpoint(args.checkpoint))
    write(os.path.join(args.output_dir, "model.ckpt"), rescaled(arrays, args.scale))


def rescaled(arrays, scale):
    """Return the weights of a pre-LN model with another scale of the sum, without pooler.

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
