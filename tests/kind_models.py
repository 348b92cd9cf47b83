"""Small models of random weights for any kind of task, in the folders that runs leave."""

import re

import helpers
import numpy as np

import modeling
from checkpointing import arrays as weights
from checkpointing import model_files, run_folder
from finetuning.model import variable_shapes
from kinds.registry import KINDS, kind_of
from serving import model_outputs


def write_kind_model(folder, pieces, length, task, labels=(), stored=None, left_out="$^"):
    """Write config, vocabulary and a folder `out` with a model of random weights.

    Args:
        folder: path.
        pieces: list of str, the vocabulary.
        length: int, most pieces of a sequence.
        task: str, of any kind.
        labels: list of str.
        stored: dict, `model_files.Description.settings`.
        left_out: str, pattern of the variables that the checkpoint lacks.

    Returns:
        path of `out`.
    """
    helpers.write_config(folder, len(pieces), length, initializer_range=0.3)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = modeling.AlbertConfig.from_json_file(str(folder / "config.json"))
    described = model_files.Description(
        task, labels, length, config.to_dict(), str(folder / "vocab.txt"), settings=stored or {}
    )
    model_files.write(str(folder / "out"), described)
    kind = kind_of(KINDS, task)
    task = kind.with_labels(kind.tasks[task], labels)
    settings = model_outputs.settings_of(kind, length, described.settings)
    shapes = variable_shapes(kind, config, task, settings)
    rng = np.random.RandomState(0)
    arrays = {name: rng.normal(0, 0.3, shape).astype("f") for name, shape in shapes.items()}
    arrays = {name: array for name, array in arrays.items() if not re.search(left_out, name)}
    prefix = str(folder / "out" / "model.ckpt-1")
    weights.write(prefix, arrays)
    run_folder.write_state(str(folder / "out"), [prefix])
    return folder / "out"
