"""Export a model for TensorFlow Serving, TensorFlow Lite or ONNX Runtime, and check the export.

python export_model.py --model_dir=OUT --output_dir=served              served/1/saved_model.pb ...
python export_model.py --model_dir=OUT --output_dir=lite --format=tflite --quantization=int8
python export_model.py --model_dir=OUT --output_dir=onnx --format=onnx  onnx/model.onnx
"""

import os

from common import tensorflow_settings

tensorflow_settings.set_environment()

import tensorflow.compat.v1 as tf
from absl import logging

from common import cli, files
from common.errors import UserError
from serving import export, model_flags


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    model_flags.define_flags(flag_values)
    define.string("output_dir", None, "Folder of the export.", required=True)
    define.enum(
        "format",
        "saved_model",
        list(export.FORMATS),
        "saved_model for TensorFlow Serving, tflite for TensorFlow Lite, onnx for ONNX Runtime.",
    )
    define.enum(
        "quantization",
        "float32",
        list(export.QUANTIZATIONS),
        "Type of the weights in a tflite file. With int8 large products are computed in int8, too.",
    )
    define.integer(
        "version",
        1,
        "Version of a saved_model; TensorFlow Serving serves the highest one in output_dir.",
        lower_bound=1,
    )
    define.bool("raw_text", True, "Whether a saved_model takes text as well as ids.")
    define.integer("top_k", 5, "Pieces that a saved_model returns for a [MASK].", lower_bound=1)


def main(args):
    """Load the model, export it, and print how much the outputs of the export differ."""
    set_verbosity(logging.WARNING)
    options = export.Options(
        args.format, args.quantization, args.version, args.raw_text, args.top_k
    )
    if options.quantization not in export.FORMATS[options.format].tolerances:
        raise UserError("--quantization is for --format=tflite: leave it out")
    path = export.prepare(args.output_dir, options)
    model = model_flags.load_predictor(args)
    set_verbosity(logging.ERROR)  # samples that are cut and converters warn much
    differences = export.write(model, path, options)
    for name, difference in differences.items():
        print("{}: largest difference {:.2g}".format(name, difference))
    print("{}: {:.1f} MB, from {}".format(path, size_of(path) / 1e6, model.checkpoint.prefix))


def set_verbosity(level):
    """Hide the log below a level of absl."""
    logging.set_verbosity(level)
    tf.logging.set_verbosity(logging.converter.absl_to_standard(level))


def size_of(path):
    """Return the bytes of a file, or of all files below a folder."""
    if not files.is_folder(path):
        return files.size(path)
    walk = tf.io.gfile.walk(path)
    return sum(files.size(os.path.join(place, name)) for place, _, names in walk for name in names)


if __name__ == "__main__":
    cli.run(main, define_flags)
