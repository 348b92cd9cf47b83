"""Exports of loaded models: their formats, and the check of each before it gets its name.

    from serving.predictor import Predictor

    write(Predictor("albert_tiny_lcqmc"), "served", Options("saved_model"))

The runtime of the format computes every export, and its outputs are compared with the predictor's.
All graphs are those of `modeling.PLAIN`: no op in them needs XLA.
"""

import functools
import importlib
import os
from typing import Callable, Dict, NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from common import files
from common.errors import UserError
from serving import graph_tokenizer, saved_model, single_file

QUANTIZATIONS = ("float32", "float16", "int8")  # int8 is TensorFlow Lite's "dynamic range"
INSTALL = 'pip install ".[export]"'


class Options(NamedTuple):
    """How a model is exported."""

    format: str = "saved_model"  # key of FORMATS
    quantization: str = "float32"  # one of QUANTIZATIONS
    version: int = 1  # of a saved model
    raw_text: bool = True  # whether a saved model has signatures for text
    top_k: int = 5  # pieces that a saved model returns for a [MASK]


class Format(NamedTuple):
    """A way to export."""

    write: Callable  # (model, path, options)
    differences: Callable  # (model, path) -> dict of output to its largest difference
    file_name: str  # pattern with fields of the options
    # Quantization -> largest allowed difference of probabilities, and of vectors, whose values are
    # about 1, from the predictor's.
    tolerances: Dict[str, float]
    packages: Tuple[str, ...] = ()  # that it needs
    remedy: str = "remove it"  # for a user whose export exists already


FORMATS = {
    "saved_model": Format(
        saved_model.write_saved_model,
        saved_model.saved_model_differences,
        file_name="{version}",
        tolerances={"float32": 1e-5},
        remedy="give another --version",
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


def write(model, output_dir, options):
    """Export a model: written, checked, then renamed to its place.

    Args:
        model: `predictor.Predictor`.
        output_dir: str, made where it is missing.
        options: `Options`.

    Returns:
        (path, differences): str, and a dict of name of an output to its largest difference.

    Raises:
        UserError: where the export exists, a package is missing or the tolerance is exceeded.
    """
    path = output_path(output_dir, options)
    way = FORMATS[options.format]
    check_packages(options)
    with files.writing(path):
        files.make_parent(path)
    unfinished = path + files.TEMPORARY_SUFFIX
    _remove(unfinished)  # a killed run may have left it
    try:
        way.write(model, unfinished, options)
        differences = way.differences(model, unfinished)
        _check_differences(differences, options)
        tf.io.gfile.rename(unfinished, path)
    finally:
        _remove(unfinished)
    return path, differences


def output_path(output_dir, options):
    """Return the path of an export; raises UserError if it exists already."""
    way = FORMATS[options.format]
    path = os.path.join(output_dir, way.file_name.format(**options._asdict()))
    files.refuse_pattern(path)
    if files.exists(path):
        raise UserError("{} exists: {} or another --output_dir".format(path, way.remedy))
    return path


def check_packages(options):
    """Raise a `UserError` where a package is missing that the options need."""
    if options.format == "saved_model" and options.raw_text:
        graph_tokenizer.tensorflow_text()
    for name in FORMATS[options.format].packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            reason = str(error).split("\n")[0]
            raise UserError(
                "{} needs {} ({}): {}".format(options.format, name, reason, INSTALL)
            ) from error


def _check_differences(differences, options):
    tolerance = FORMATS[options.format].tolerances[options.quantization]
    name, largest = max(differences.items(), key=lambda item: item[1])
    if not largest <= tolerance:
        raise UserError(
            "{} of {} ({}) differs from the model's by {:.2g}, more than {:g}: nothing was "
            "written".format(name, options.format, options.quantization, largest, tolerance)
        )


def _remove(path):
    if tf.io.gfile.isdir(path):
        tf.io.gfile.rmtree(path)
    else:
        files.remove(path)
