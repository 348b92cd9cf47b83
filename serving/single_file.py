"""Models in one file, from ids to outputs: TensorFlow Lite and ONNX Runtime."""

import importlib
import os
import tempfile

import tensorflow.compat.v1 as tf
from tensorflow.compat import v2 as tf2

from common import files
from serving import model_outputs
from serving.samples import FIELDS, default_computation, differences, id_feeds, samples
from serving.saved_model import Signature, save

ONNX_OPSET = 15


def _build_portable(model):
    """Build the only signature of a file: ids to probabilities, or to vectors."""
    computation = default_computation(model)
    placeholders = model_outputs.placeholders(model.kind)
    if computation == "choose":
        outputs = {"probabilities": model_outputs.choice_probabilities(model, placeholders)}
    elif computation in FIELDS:
        outputs = model_outputs.build(
            model.kind, model.config, model.task, model.settings, placeholders
        )
    else:
        inputs = list(placeholders.values())
        outputs = model_outputs.build_vectors(model.config, inputs, model.num_labels)
    names = {"embed": model.poolings, "classify": ["probabilities"]}.get(computation, list(outputs))
    return Signature(placeholders, {name: tf.identity(outputs[name], name) for name in names})


def write_tflite(model, path, options):
    """Write a model for TensorFlow Lite; the model takes any batch and length.

    Args:
        model: `predictor.Predictor`.
        path: str.
        options: `export.Options`.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = os.path.join(parent, "model")
        with tf.Graph().as_default(), tf.Session() as session:
            save(session, model, folder, {"serving_default": _build_portable(model)})
        converter = tf2.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        if options.quantization != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if options.quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
    with files.writing(path), files.open_file(path, "wb") as stream:
        stream.write(content)


def write_onnx(model, path, options):
    """Write a model for ONNX Runtime; takes the arguments of `write_tflite`."""
    tf2onnx = importlib.import_module("tf2onnx.convert")
    with tf.Graph().as_default(), tf.Session() as session:
        signature = _build_portable(model)
        model.load_weights(session)
        graph_def = tf.graph_util.convert_variables_to_constants(
            session, session.graph_def, list(signature.outputs)
        )
    inputs, outputs = ([name + ":0" for name in names] for names in signature)
    proto, _ = tf2onnx.from_graph_def(
        graph_def,
        name="albert",
        input_names=inputs,
        output_names=outputs,
        opset=ONNX_OPSET,
        tensors_to_rename={name: name[: -len(":0")] for name in inputs + outputs},
    )
    with files.writing(path), files.open_file(path, "wb") as stream:
        stream.write(proto.SerializeToString())


def load_tflite(path, num_threads=None):
    """Return the function of a TensorFlow Lite file: dict of arrays to dict of arrays."""
    interpreter = tf.lite.Interpreter(path, num_threads=num_threads)
    runner = interpreter.get_signature_runner("serving_default")
    return lambda feeds: runner(**feeds)


def load_onnx(path, num_threads=0):
    """Return the function of an ONNX file: dict of arrays to dict of arrays."""
    onnxruntime = importlib.import_module("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds)))


def file_differences(load, model, path):
    """Return the largest differences of a file's outputs from the predictor's.

    Args:
        load: `load_tflite` or `load_onnx`.
        model: `predictor.Predictor`.
        path: str.
    """
    computation = default_computation(model)
    rows = samples(model, computation)
    return differences(model, computation, load(path)(id_feeds(model, computation, rows)), rows)
