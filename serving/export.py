"""Exports loaded models in several formats; checks each export before it gets its name.

    from serving.predictor import Predictor

    options = Options("saved_model")
    write(Predictor("albert_tiny_lcqmc"), prepare("served", options), options)

The runtime of the format runs every export, and `write` compares the outputs with the predictor's.
All graphs are built with `modeling.PLAIN`, so no op in them needs XLA.
"""

import functools
import importlib
import os
from typing import Callable, Dict, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from common import files
from common.errors import UserError
from serving import saved_model, single_file

QUANTIZATIONS = ("float32", "float16", "int8")  # int8 is TensorFlow Lite's "dynamic range"


class Options(NamedTuple):
    """How a model is exported."""

    format: str = "saved_model"  # key of FORMATS
    quantization: str = "float32"  # one of QUANTIZATIONS
    version: int = 1  # version of a saved model
    raw_text: bool = True  # whether a saved model has signatures for text
    top_k: int = 5  # pieces that a saved model returns for a [MASK]


class Format(NamedTuple):
    """A way to export."""

    write: Callable  # (model, path, options)
    differences: Callable  # (model, path) -> dict of output to its largest difference
    file_name: str  # pattern with fields of the options
    # Quantization -> largest allowed difference from the predictor's probabilities and vectors. The
    # values of vectors are about 1.
    tolerances: Dict[str, float]
    packages: Tuple[str, ...] = ()  # that it needs


FORMATS = {
    "saved_model": Format(
        saved_model.write_saved_model,
        saved_model.saved_model_differences,
        file_name="{version}",
        tolerances={"float32": 1e-5},
    ),
    "tflite": Format(
        single_file.write_tflite,
        functools.partial(single_file.file_differences, single_file.load_tflite),
        file_name="model_{quantization}.tflite",
        tolerances={"float32": 1e-4, "float16": 1e-2, "int8": 0.1},
    ),
    "onnx": Format(
        single_file.write_onnx,
        functools.partial(single_file.file_differences, single_file.load_onnx),
        file_name="model.onnx",
        tolerances={"float32": 1e-4},
        packages=("tf2onnx", "onnxruntime"),
    ),
}


def prepare(output_dir, options):
    """Check what an export needs, before its model is loaded.

    Args:
        output_dir: str.
        options: `Options`.

    Returns:
        str, the path of the export.

    Raises:
        UserError: where the export exists, its folder is a file, or a package is missing.
    """
    way = FORMATS[options.format]
    path = os.path.join(output_dir, way.file_name.format(**options._asdict()))
    files.refuse_pattern(path)
    if files.exists(output_dir) and not files.is_folder(output_dir):
        raise UserError("{} is a file: give the name of a folder".format(output_dir))
    if files.exists(path):
        raise UserError(
            "{} exists: give another --version of a saved_model or another --output_dir, or remove "
            "it".format(path)
        )
    needs_text = options.format == "saved_model" and options.raw_text
    for name in way.packages + (("tensorflow_text",) if needs_text else ()):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                '{} is missing ({}): pip install ".[export]"{}'.format(
                    name, str(error).split("\n")[0], ", or give --raw_text=False" * needs_text
                )
            ) from error
    return path


def write(model, path, options):
    """Export a model: written, checked, then renamed to its place.

    Args:
        model: `predictor.Predictor`.
        path: str, as `prepare` returned it; its folder is made where it is missing.
        options: `Options`.

    Returns:
        dict of name of an output to its largest difference from the model's.

    Raises:
        UserError: where the tolerance is exceeded.
    """
    way = FORMATS[options.format]
    with files.writing(path):
        files.make_parent(path)
    unfinished = path + files.TEMPORARY_SUFFIX
    _remove(unfinished)  # a killed run may have left it
    try:
        way.write(model, unfinished, options)
        differences = way.differences(model, unfinished)
        tolerance = way.tolerances[options.quantization]
        name, largest = max(differences.items(), key=lambda item: item[1])
        if not largest <= tolerance:
            message = "{} of {} differs from the model's by {:.2g} > {:g}: nothing was written"
            raise UserError(message.format(name, path, largest, tolerance))
        tf.io.gfile.rename(unfinished, path)
    finally:
        _remove(unfinished)
    return differences


def _remove(path):
    if files.is_folder(path):
        tf.io.gfile.rmtree(path)
    else:
        files.remove(path)
