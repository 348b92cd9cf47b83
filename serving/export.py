"""Loaded models as files for other runtimes: TensorFlow Serving, TensorFlow Lite, ONNX Runtime.

    from serving.predictor import Predictor

    write(Predictor("albert_tiny_lcqmc"), "served", Options("saved_model"))

Every export is computed again by its own runtime and held against the predictor before it gets its
name. All graphs are those of `modeling.PLAIN`: no op in them needs XLA.

Dimension letters: B batch size, S length, M masked pieces of a text, k best pieces, V vocabulary.
"""

import contextlib
import importlib
import os
import tempfile
from typing import Callable, Dict, NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
import tokenization
from checkpointing import inspection, restore
from common import files
from common.errors import UserError
from finetuning import encoding, tasks
from serving import graph_tokenizer, predictor

QUANTIZATIONS = ("float32", "float16", "int8")  # int8: of the weights, "dynamic range"
INPUTS = ("input_ids", "input_mask", "segment_ids")
ONNX_OPSET = 15
INSTALL = "pip install -r requirements-export.txt"
# What exports are tried on: of all lengths, and with what a tokenizer trips over.
SAMPLES = (
    ("怎么做红烧肉", "红烧肉的做法"),
    ("ALBERT在2019年", "Ｂ超、α波和naïve的café，①②③"),
    ("猫不吃饭", ""),
    ("天地玄黄，宇宙洪荒。" * 60, "日月盈昃，辰宿列张。" * 55),
    ("\u3000a\tb\u200b\ufeff한국어 𠀀" + "x" * 101, "[MASK][SEP]\r\n"),
)
MASKED_SAMPLES = ("[MASK]京是中国的首[MASK]。", "没有空", "天[MASK]地" * 300, "")


class Options(NamedTuple):
    """What is exported, and how."""

    format: str = "saved_model"  # key of FORMATS
    quantization: str = "float32"  # one of QUANTIZATIONS
    version: int = 1  # of a saved model
    raw_text: bool = True  # whether a saved model has signatures for text
    top_k: int = 5  # pieces told for a [MASK]


class Format(NamedTuple):
    """A way to export."""

    write: Callable  # of the model, the path and the options
    differences: Callable  # from the model: of it and the path, a dict of output to float
    file_name: str  # of the options' fields
    # Quantization -> largest difference from the predictor that is kept: of probabilities, and of
    # vectors of values of about 1.
    tolerances: Dict[str, float]
    packages: Tuple[str, ...] = ()  # that it needs
    remedy: str = "remove it"  # where there is an export already


class Signature(NamedTuple):
    """A computation of a saved model: dicts of name to tensor."""

    inputs: Dict[str, tf.Tensor]
    outputs: Dict[str, tf.Tensor]


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
    _remove(unfinished)  # of a run that was killed
    try:
        way.write(model, unfinished, options)
        differences = way.differences(model, unfinished)
        _check_differences(differences, options)
        tf.io.gfile.rename(unfinished, path)
    finally:
        _remove(unfinished)
    return path, differences


def output_path(output_dir, options):
    """Return the path of an export.

    Raises:
        UserError: where there is something already.
    """
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


# -------------------------------------------------------------------------------- saved model


def write_saved_model(model, folder, options):
    """Write a model in the layout of TensorFlow Serving.

    Args:
        model: `predictor.Predictor`.
        folder: str, that of the version; there must be none yet.
        options: `Options`.
    """
    with tempfile.TemporaryDirectory() as assets, _fresh_session() as session:
        vocabulary = _asset(assets, "vocab.txt", model.tokenizer.vocab)
        signatures = build_signatures(model, vocabulary, options)
        if model.task:
            labels = _asset(assets, "labels.txt", model.task.labels)
            tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, tf.constant(labels))
        if not options.raw_text:  # else the tokenizer has made it an asset
            tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, tf.constant(vocabulary))
        _save(session, model.prefix, folder, signatures)


def _save(session, prefix, folder, signatures):
    """Write the graph of a session with the weights of a checkpoint."""
    _load_weights(session, prefix)
    builder = tf.saved_model.Builder(folder)
    builder.add_meta_graph_and_variables(
        session,
        [tf.saved_model.SERVING],
        {
            name: tf.saved_model.predict_signature_def(signature.inputs, signature.outputs)
            for name, signature in signatures.items()
        },
        assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
        main_op=tf.tables_initializer(),
        strip_default_attrs=True,
    )
    builder.save()


@contextlib.contextmanager
def _fresh_session():
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def _load_weights(session, prefix):
    # Not checkpoint.warm_start: its initializers, and paths of this machine, would be exported.
    variables = {variable.op.name: variable for variable in tf.trainable_variables()}
    plan = restore.check_warm_start(restore.shapes_of(variables.values()), prefix)
    reader = tf.train.load_checkpoint(prefix)
    for stored, name in plan.assignment.items():
        variables[name].load(reader.get_tensor(stored), session)


def _asset(folder, name, lines):
    path = os.path.join(folder, name)
    files.write_text(path, "".join(line + "\n" for line in lines))
    return path


def build_signatures(model, vocabulary, options):
    """Build the graphs of all signatures of a saved model.

    Args:
        model: `predictor.Predictor`.
        vocabulary: str, path of a file of its pieces, one a line.
        options: `Options`.

    Returns:
        Dict of name to `Signature`: `embed`, and `classify` or, where the checkpoint has the head
        for masked pieces, `fill_mask`; with `_text` behind their names those that take text; and
        `serving_default`.
    """
    computations = {"embed": _embed}
    if model.task:
        computations["classify"] = _classify
    elif _has_masked_lm_head(model.prefix):
        computations["fill_mask"] = _fill_mask
    placeholders = _id_placeholders()
    inputs = _checked_lengths(list(placeholders.values()), model.config)
    signatures = {
        name: Signature(placeholders, _for_any_batch(compute, model, inputs, options))
        for name, compute in computations.items()
    }
    signatures["serving_default"] = signatures["classify" if model.task else "embed"]
    if options.raw_text:
        tokenizer = graph_tokenizer.GraphTokenizer(model.tokenizer, vocabulary)
        for name, compute in computations.items():
            fields = text_fields(model, name)
            texts = {field: tf.placeholder(tf.string, [None], field) for field in fields}
            inputs = tokenizer.inputs(
                list(texts.values()), model.max_seq_length, with_masks=name == "fill_mask"
            )
            outputs = _for_any_batch(compute, model, inputs, options)
            signatures[name + "_text"] = Signature(texts, outputs)
    return signatures


def _for_any_batch(compute, model, inputs, options):
    """Return the outputs of a computation, for a batch of no text, too.

    TensorFlow's product of many matrices fails for none: such a batch is computed with a row.
    """
    is_empty = tf.cast(tf.equal(tf.shape(inputs[0]), 0), tf.int32)  # [2], of rows and columns
    lacking = tf.stack([tf.zeros_like(is_empty), is_empty * is_empty[0]], axis=1)  # [2, 2]
    outputs = compute(model, [tf.pad(tensor, lacking) for tensor in inputs], options)
    batch_size = tf.shape(inputs[0])[0]
    return {name: tensor[:batch_size] for name, tensor in outputs.items()}


def text_fields(model, name):
    """Return the names of the texts that a signature takes: of `classify` those of the task."""
    is_pair = name == "classify" and len(model.task.fields) == 3
    return ("text_a", "text_b") if is_pair else ("text",)


def _id_placeholders():
    return {name: tf.placeholder(tf.int32, [None, None], name) for name in INPUTS}


def _checked_lengths(inputs, config):
    """Return inputs that tell whoever asks when they are longer than the position table."""
    longest = config.max_position_embeddings
    message = "more than the {} pieces of the model's max_position_embeddings".format(longest)
    check = tf.debugging.assert_less_equal(tf.shape(inputs[0])[1], longest, message=message)
    with tf.control_dependencies([check]):
        return [tf.identity(tensor) for tensor in inputs]


def _embed(model, inputs, _):
    outputs = predictor.build_outputs(model.config, inputs)
    return {name: outputs[name] for name in predictor.POOLINGS}


def _classify(model, inputs, _):
    labels = tf.constant(model.task.labels)
    outputs = predictor.build_outputs(model.config, inputs, len(model.task.labels))
    probabilities = outputs["probabilities"]  # [B, labels]
    return {
        "probabilities": probabilities,
        "labels": tf.tile(labels[tf.newaxis], [tf.shape(probabilities)[0], 1]),
        "label": tf.gather(labels, tf.argmax(probabilities, axis=1)),
    }


def _has_masked_lm_head(prefix):
    names = map(restore.rename, restore.read_shapes(prefix))
    return "masked_lm" in inspection.find_heads(set(names))


def _fill_mask(model, inputs, options):
    """Return `pieces`, `ids` and `probabilities` [B, M, k]; where a text has less than M masks,
    "", 0 and 0.0.
    """
    is_mask = tf.equal(inputs[0], model.tokenizer.vocab[tokenization.MASK])  # [B, S]
    columns = tf.zeros_like(inputs[0]) + tf.range(tf.shape(inputs[0])[1])
    places = tf.ragged.boolean_mask(columns, is_mask)
    is_there = tf.sequence_mask(places.row_lengths())[:, :, tf.newaxis]  # [B, M, 1]
    places = places.to_tensor()  # [B, M]
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        encoder = modeling.AlbertModel(model.config, False, *inputs, scope="bert")
        with tf.variable_scope("cls/predictions"):
            logits = modeling.masked_lm_logits(encoder, encoder.outputs_at(places))  # [B*M, V]
    number = min(options.top_k, model.config.vocab_size)
    best, ids = tf.nn.top_k(tf.nn.softmax(logits), number)  # [B*M, k]
    shape = tf.concat([tf.shape(places), [number]], axis=0)
    names = [model.tokenizer.inv_vocab.get(i, "") for i in range(model.config.vocab_size)]
    ids = tf.reshape(ids, shape) * tf.cast(is_there, tf.int32)
    pieces = tf.gather(tf.constant(names), ids)
    is_there = tf.broadcast_to(is_there, shape)
    return {
        "probabilities": tf.reshape(best, shape) * tf.cast(is_there, tf.float32),
        "ids": ids,
        "pieces": tf.where(is_there, pieces, tf.fill(shape, "")),
    }


def load_saved_model(folder):
    """Load a saved model, from its folder alone.

    Returns:
        (session, signatures): a `tf.Session`, and the names of the signatures in a dict to
        functions of a dict of arrays by name of an input, which return a dict by name of output.
    """
    graph = tf.Graph()
    with graph.as_default():
        session = tf.Session()
        loaded = tf.saved_model.load(session, [tf.saved_model.SERVING], folder)

    def function(signature):
        outputs = {name: info.name for name, info in signature.outputs.items()}
        return lambda feeds: session.run(
            outputs, {signature.inputs[name].name: value for name, value in feeds.items()}
        )

    return session, {
        name: function(found)
        for name, found in loaded.signature_def.items()
        if not name.startswith("__")  # what fills the tables
    }


def saved_model_differences(model, folder):
    """Return the largest differences of all outputs of a saved model from the predictor's."""
    differences = {}
    session, signatures = load_saved_model(folder)
    with session:
        for name, function in sorted(signatures.items()):
            default = "classify" if model.task else "embed"
            kind = default if name == "serving_default" else name.replace("_text", "")
            if kind == "fill_mask":
                found = {"probabilities": _masked_difference(model, name, function)}
            else:
                rows = samples(model, kind)
                make_feeds = _text_feeds if name.endswith("_text") else id_feeds
                found = _differences(function(make_feeds(model, rows)), expected(model, kind, rows))
            differences.update(("{} {}".format(name, key), value) for key, value in found.items())
    return differences


def samples(model, kind="classify"):
    """Return the texts, or pairs, that an export is tried on: a list of tuples."""
    return [row[: len(text_fields(model, kind))] for row in SAMPLES]


def id_feeds(model, rows):
    """Return a dict of `input_ids`, `input_mask` and `segment_ids`, int32 [B, S], of texts."""
    examples = [tasks.Example("", *row) for row in rows]
    encoded = encoding.encode_examples(examples, (), model.tokenizer, model.max_seq_length)
    return dict(zip(INPUTS, predictor.padded_batch(encoded, np.arange(len(rows)))))


def _text_feeds(_, rows):
    columns = [[text.encode("utf-8") for text in column] for column in zip(*rows)]
    return dict(zip(("text_a", "text_b") if len(columns) == 2 else ("text",), columns))


def expected(model, kind, rows):
    """Return what the predictor makes of texts: a dict of name of an output to array."""
    if kind == "classify":
        return {"probabilities": model.probabilities(rows)}
    return {pooling: model.embed(rows, pooling) for pooling in predictor.POOLINGS}


def _differences(found, wanted):
    # A NaN is a difference, and larger than any tolerance.
    return {
        name: float(np.nan_to_num(np.abs(found[name] - array), nan=np.inf).max())
        for name, array in wanted.items()
    }


def _masked_difference(model, name, function):
    """Return the largest difference of told probabilities from those of a plain model."""
    feeds = masked_feeds(model, MASKED_SAMPLES)
    wanted = masked_probabilities(model, feeds)  # [all masks, V]
    if name.endswith("_text"):
        feeds = {"text": [text.encode("utf-8") for text in MASKED_SAMPLES]}
    found = function(feeds)
    is_there = found["probabilities"][:, :, 0] > 0  # row by row, as in `wanted`
    if np.sum(is_there) != len(wanted):
        return np.inf
    best = np.take_along_axis(wanted, found["ids"][is_there], axis=1)
    return float(np.abs(best - found["probabilities"][is_there]).max())


def masked_feeds(model, texts):
    """Return the feeds of texts in which "[MASK]" stands for that piece: a dict as `id_feeds`."""
    markers = (tokenization.CLS, tokenization.SEP, tokenization.MASK)
    cls_id, sep_id, mask_id = model.tokenizer.convert_tokens_to_ids(markers)
    rows = []
    for text in texts:
        ids = []
        for part in text.split(tokenization.MASK):
            ids += [mask_id] + model.tokenizer.encode(part).ids.tolist()
        rows.append([cls_id] + ids[1 : model.max_seq_length - 1] + [sep_id])
    mask = np.arange(max(map(len, rows))) < np.array([[len(row)] for row in rows])
    ids = np.zeros(mask.shape, np.int32)
    ids[mask] = np.concatenate(rows)
    return dict(zip(INPUTS, (ids, mask.astype(np.int32), np.zeros_like(ids))))


def masked_probabilities(model, feeds):
    """Return float32 [masks of all texts, V], by a graph that scores every place."""
    with _fresh_session() as session:
        encoder = modeling.AlbertModel(model.config, False, *map(tf.constant, feeds.values()))
        hidden = tf.reshape(encoder.sequence_output, [-1, model.config.hidden_size])
        hidden = tf.boolean_mask(
            hidden, feeds["input_ids"].reshape(-1) == model.tokenizer.vocab[tokenization.MASK]
        )
        with tf.variable_scope("cls/predictions"):
            probabilities = tf.nn.softmax(modeling.masked_lm_logits(encoder, hidden))
        _load_weights(session, model.prefix)
        return session.run(probabilities)


# ------------------------------------------------------------------------------ single files


def _build_portable(model):
    """Build the one signature of a single file: ids to probabilities, or to vectors."""
    placeholders = _id_placeholders()
    inputs = list(placeholders.values())
    num_labels = len(model.task.labels) if model.task else None
    outputs = predictor.build_outputs(model.config, inputs, num_labels)
    names = ["probabilities"] if model.task else predictor.POOLINGS
    return Signature(placeholders, {name: tf.identity(outputs[name], name) for name in names})


def write_tflite(model, path, options):
    """Write a model for TensorFlow Lite, any batch and length; arguments as `write_saved_model`."""
    with tempfile.TemporaryDirectory() as parent:
        folder = os.path.join(parent, "model")
        with _fresh_session() as session:
            _save(session, model.prefix, folder, {"serving_default": _build_portable(model)})
        converter = tf.compat.v2.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        if options.quantization != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if options.quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        content = converter.convert()
    with files.open_file(path, "wb") as stream:
        stream.write(content)


def write_onnx(model, path, options):
    """Write a model for ONNX Runtime, any batch and length; arguments as `write_saved_model`."""
    tf2onnx = importlib.import_module("tf2onnx.convert")
    with _fresh_session() as session:
        signature = _build_portable(model)
        _load_weights(session, model.prefix)
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
    with files.open_file(path, "wb") as stream:
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


def tflite_differences(model, path):
    """Return the largest differences of a TensorFlow Lite file's outputs: dict of name to float."""
    return _portable_differences(model, load_tflite(path))


def onnx_differences(model, path):
    """Return the same for an ONNX file."""
    return _portable_differences(model, load_onnx(path))


def _portable_differences(model, function):
    kind = "classify" if model.task else "embed"
    rows = samples(model, kind)
    return _differences(function(id_feeds(model, rows)), expected(model, kind, rows))


FORMATS = {
    "saved_model": Format(
        write_saved_model,
        saved_model_differences,
        file_name="{version}",
        tolerances={"float32": 1e-5},
        remedy="give another --version",
    ),
    "tflite": Format(
        write_tflite,
        tflite_differences,
        file_name="model_{quantization}.tflite",
        tolerances={"float32": 1e-4, "float16": 1e-2, "int8": 0.1},
    ),
    "onnx": Format(
        write_onnx,
        onnx_differences,
        file_name="model.onnx",
        tolerances={"float32": 1e-4},
        packages=("tf2onnx", "onnxruntime"),
    ),
}
