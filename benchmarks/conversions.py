"""Measure how exact conversions are, for every layout, size, head and direction.

    python benchmarks/conversions.py [--sizes=tiny,small,base,large]

Random weights of each size are converted to Hugging Face and back. The last line is a JSON array of
objects: layout, architecture, size, head, `mb` of model.safetensors, `there` and `back` (largest
difference of any output between the model here and the folder in transformers), and `same_bits`,
whether the checkpoint that comes back equals the first; a head of pieces comes back without the
pooler, which it does not use. Needs the extra `interop`.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import tensorflow_settings

tensorflow_settings.set_environment()

import numpy as np

import convert_checkpoint
import modeling
from checkpointing import arrays as weights
from checkpointing import find
from common import cli, files
from common.text_table import text_table
from huggingface import configs
from huggingface import folder as huggingface_folder

CONFIGS = os.path.join(sys.path[0], "albert_config")
LAYOUTS = {"albert_zh": "albert_config_{}.json", "google": "albert_config_{}_google.json"}
# Head -> (scope, outputs); None: the two heads of pre-training.
HEADS = {
    "pre-training": None,
    "classifier": ("", 3),
    "choice": ("", 1),
    "spans": ("cls/squad/", 2),
    "labels": ("cls/labels/", 5),
}
OF_PIECES = ("spans", "labels")


def main():
    """Convert every model and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="tiny,small,base")
    sizes = parser.parse_args().sizes.split(",")
    results = []
    for layout, size, head in itertools.product(configs.ARCHITECTURES, sizes, HEADS):
        for family in configs.ARCHITECTURES[layout]:
            row = {"layout": layout, "architecture": family, "size": size, "head": head}
            row.update(convert(LAYOUTS[layout].format(size), family, head))
            results.append(row)
    rows = [list(results[0])] + [
        ["{:.1e}".format(x) if isinstance(x, float) else x for x in row.values()] for row in results
    ]
    print(text_table(rows))
    print(json.dumps(results))


def convert(name, family, head):
    """Convert random weights there and back; return the size, both differences and `same_bits`."""
    config_file = os.path.join(CONFIGS, name)
    config = modeling.AlbertConfig.from_json_file(config_file)
    arrays = random_weights(config, head)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        prefix = os.path.join(folder, "model.ckpt")
        weights.write(prefix, arrays)
        there, back = tempfile.mkdtemp(dir=folder), tempfile.mkdtemp(dir=folder)
        argv = [name, "--bert_config_file=" + config_file, "--architecture=" + family]
        argv.append("--vocab_file=" + os.path.join(CONFIGS, "vocab.txt"))
        args = cli.parse(convert_checkpoint.define_flags, argv)
        differences = {
            "there": convert_checkpoint.to_huggingface(args, there, prefix),
            "back": convert_checkpoint.from_huggingface(args, back, there),
        }
        again = weights.read(find.find_checkpoint(back))
        mb = round(files.size(os.path.join(there, huggingface_folder.WEIGHTS)) / 1e6)
    kept = [x for x in arrays if head not in OF_PIECES or not x.startswith("bert/pooler/")]
    same = sorted(again) == sorted(kept) and all(
        np.array_equal(again[name], arrays[name]) for name in kept
    )
    largest = {way: max(by_output.values()) for way, by_output in differences.items()}
    return dict(mb=mb, **largest, same_bits=same)


def random_weights(config, head):
    """Return random weights; unlike in a new model, biases and norms are random, too."""
    rng = np.random.RandomState(0)
    scope, outputs = HEADS[head] or ("", None)
    shapes = modeling.parameter_shapes(config, outputs)
    return {
        scope * name.startswith("output_") + name: (
            rng.normal(0, 0.05, shape) + name.endswith("gamma")
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


if __name__ == "__main__":
    main()
