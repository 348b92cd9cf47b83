"""Look into checkpoints, slim and average them, and convert them to Hugging Face and back.

    python convert_checkpoint.py inspect albert_tiny_zh
    python convert_checkpoint.py to-huggingface albert_tiny_zh --output_dir=albert_tiny_hf \\
        --bert_config_file=albert_config_tiny.json --vocab_file=vocab.txt
    python convert_checkpoint.py to-huggingface lcqmc_runs --output_dir=lcqmc_hf
    python convert_checkpoint.py from-huggingface albert_tiny_hf --output_dir=albert_tiny_again
    python convert_checkpoint.py slim my_model/model.ckpt-125000 --output_dir=slim
    python convert_checkpoint.py average my_model/model.ckpt-12{3,4,5}000 --output_dir=average

Each makes OUTPUT_DIR whole or not at all. A fine-tuned model needs neither config nor vocabulary:
its run's folder has both, and the labels. Where torch and transformers are installed, a conversion
computes both models and ends with status 2 if a logit differs by more than 1e-4. Of a run's folder
the best checkpoint is taken.
"""

import json
import os
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags

import huggingface
import modeling
from pipeline import checkpoint, cli, files, inspection, model_folder, training, weights
from pipeline.errors import UserError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
# What a folder has beside these, so that the way back gives every bit and the same names.
OUR_CONFIG, OUR_FACTORS = model_folder.CONFIG, "factors.safetensors"
BASENAME = "albert_model.ckpt"
TOLERANCE = 1e-4
WORDS = "COMMAND PATH..."
CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "albert_config")


def define_flags(flag_values):
    """Define this script's flags."""
    options = {"flag_values": flag_values}
    flags.DEFINE_string("output_dir", None, "Folder to make; it must not exist.", **options)
    flags.DEFINE_string(
        "bert_config_file", None, "JSON file of the model, for to-huggingface.", **options
    )
    flags.DEFINE_string("vocab_file", None, "Its vocabulary, for to-huggingface.", **options)
    flags.DEFINE_enum(
        "architecture",
        None,
        sorted(huggingface.FAMILIES),
        "to-huggingface: what a model of layout albert_zh becomes: bert, the default, which "
        "stores shared layers once for each; or albert, which stores them once.",
        **options,
    )
    flags.DEFINE_bool("do_lower_case", True, "Lower-case the text and strip accents.", **options)
    flags.DEFINE_bool("json", False, "inspect: print a JSON object instead of a table.", **options)


def main(args, words):
    """Do what the first word says with the paths behind it."""
    command, paths = words[0] if words else "", words[1:]
    if command not in COMMANDS:
        raise UserError("{!r}: give one of {}".format(command, ", ".join(COMMANDS)))
    function, makes_folder = COMMANDS[command]
    if not paths or (len(paths) > 1 and command != "average"):
        raise UserError("{}: give one path, found {}".format(command, len(paths)))
    if not makes_folder:
        function(args, paths)
        return
    target = (args.output_dir or "").rstrip("/")
    if not target:
        raise UserError("--output_dir is needed")
    if os.path.exists(target):
        raise UserError("--output_dir={} exists: give another, or remove it".format(target))
    temporary = target + files.TEMPORARY_SUFFIX
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        os.makedirs(temporary)
        function(args, paths, temporary)
        os.rename(temporary, target)
    except OSError as error:
        raise UserError("--output_dir={}: {}".format(target, error.strerror)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print("made {}: {}".format(target, ", ".join(sorted(os.listdir(target)))))


# ------------------------------------------------------------------------- without a model


def inspect(args, paths):
    """Print what a checkpoint is."""
    prefix = checkpoint.find_checkpoint(paths[0])
    shapes = checkpoint.read_shapes(prefix)
    reader = tf.train.load_checkpoint(prefix)
    found = inspection.describe(shapes)
    has_step = reader.has_tensor(tf.GraphKeys.GLOBAL_STEP)
    types = reader.get_variable_to_dtype_map()
    found.update(
        checkpoint=prefix,
        step=int(reader.get_tensor(tf.GraphKeys.GLOBAL_STEP)) if has_step else None,
        weights=checkpoint.count_weights(prefix),
        variables=len(shapes),
        dtypes=sorted({types[name].name for name in weights.weight_names(shapes)}),
        bytes=weights.size_on_disk(prefix),
        configs=fitting_configs(shapes),
    )
    if args.json:
        print(json.dumps(found, indent=2, sort_keys=True))
        return
    rows = [[name, found[name]] for name in sorted(found) if name != "fields"]
    rows += [["  " + name, value] for name, value in sorted(found["fields"].items())]
    for name, value in rows:
        shown = ", ".join(value) if isinstance(value, list) else value
        print("{:<26}{}".format(name, "-" if shown in (None, "") else shown))


def fitting_configs(shapes):
    """Return the files of albert_config/ that describe a model of these shapes."""
    stored = _body(shapes)
    paths = sorted(files.glob(os.path.join(CONFIGS, "*.json")))
    configs = {path: modeling.AlbertConfig.from_json_file(path) for path in paths}
    return [
        os.path.relpath(path, os.path.dirname(CONFIGS))
        for path, config in configs.items()
        if _body(modeling.parameter_shapes(config)) == stored
    ]


def _body(shapes):
    """Return the shapes of what is under the heads, and weights."""
    return {
        name: list(shapes[name])
        for name in weights.weight_names(shapes)
        if name.startswith("bert/")
    }


def slim(args, paths, folder):
    """Write a checkpoint's weights alone."""
    prefix = checkpoint.find_checkpoint(paths[0])
    _write_checkpoint(folder, os.path.basename(prefix), weights.read(prefix))
    copy_description(prefix, folder)


def average(args, paths, folder):
    """Write the mean of several checkpoints' weights."""
    prefixes = [checkpoint.find_checkpoint(path) for path in paths]
    _write_checkpoint(folder, BASENAME, weights.average(prefixes))
    copy_description(prefixes[0], folder)


def copy_description(prefix, folder):
    """Copy what belongs to a checkpoint of a run: config, labels, vocabulary."""
    for name in model_folder.NAMES:
        path = model_folder.find(prefix, name)
        if path:
            shutil.copyfile(path, os.path.join(folder, name))


def _write_checkpoint(folder, basename, arrays):
    prefix = os.path.join(folder, basename)
    weights.write(prefix, arrays)
    checkpoint.write_state(folder, [prefix])


# ------------------------------------------------------------------------- to Hugging Face


def to_huggingface(args, paths, folder):
    """Write a checkpoint as a folder of Hugging Face; returns what `compare` does."""
    prefix = training.best_checkpoint(paths[0]) or checkpoint.find_checkpoint(paths[0])
    arrays = weights.read(prefix)
    model = described_model(args, prefix, "output_weights" in arrays)
    config = modeling.AlbertConfig.from_dict(model.config, prefix)
    family = args.architecture or huggingface.ARCHITECTURES[config.layout][0]
    class_name, parameters = huggingface.to_parameters(config, family, arrays)
    _save(folder, WEIGHTS, parameters, {"format": "pt"})
    if huggingface.is_factorized(config):
        kept = {name: arrays[name] for name in huggingface.FACTORS}
        sha256 = huggingface.words_sha256(family, parameters)
        _save(folder, OUR_FACTORS, kept, {"word_embeddings_sha256": sha256})
    labels = model.labels if "output_weights" in arrays else None
    theirs = huggingface.to_config(config, family, class_name, labels, model.task)
    _write_json(folder, CONFIG, theirs)
    model_folder.write_config(folder, config)
    write_tokenizer(folder, model)
    return compare(folder, config, arrays)


def described_model(args, prefix, is_classifier):
    """Return the `model_folder.ModelFolder` of a checkpoint: of its run, or of the flags."""
    description = is_classifier and model_folder.find(prefix, model_folder.DESCRIPTION)
    if description:
        return model_folder.read(os.path.dirname(description))
    config_file = args.bert_config_file or model_folder.find(prefix, model_folder.CONFIG)
    if not config_file or not args.vocab_file:
        raise UserError("--bert_config_file and --vocab_file are needed for {}".format(prefix))
    config = modeling.AlbertConfig.from_json_file(config_file)
    model_folder.check_config(config, prefix)
    labels = ()
    if is_classifier:
        number = checkpoint.read_shapes(prefix)["output_weights"][0]
        labels = tuple(str(i) for i in range(number))
    return model_folder.ModelFolder(
        task="sentence_pair",
        labels=labels,
        max_seq_length=config.max_position_embeddings,
        do_lower_case=args.do_lower_case,
        config=config.to_dict(),
        vocab_file=args.vocab_file,
        spm_model_file=None,
    )


def write_tokenizer(folder, model):
    """Write the vocabulary and which tokenizer reads it.

    The class is named, for transformers would take its SentencePiece tokenizer for every ALBERT.
    """
    source = model.spm_model_file or model.vocab_file
    if not os.path.exists(source):
        raise UserError("{} does not exist: name the model's vocabulary".format(source))
    name = model_folder.SENTENCEPIECE if model.spm_model_file else model_folder.WORDPIECE
    shutil.copyfile(source, os.path.join(folder, name))
    settings = {
        "tokenizer_class": "AlbertTokenizer" if model.spm_model_file else "BertTokenizer",
        "do_lower_case": model.do_lower_case,
        "model_max_length": model.max_seq_length,
    }
    _write_json(folder, "tokenizer_config.json", settings)


def _write_json(folder, name, values):
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    files.write_text(os.path.join(folder, name), text)


def _save(folder, name, arrays, metadata):
    _safetensors().numpy.save_file(arrays, os.path.join(folder, name), metadata=metadata)


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        raise UserError("safetensors is not installed: pip install safetensors") from None
    return safetensors


# ------------------------------------------------------------------------- from Hugging Face


def from_huggingface(args, paths, folder):
    """Write a folder of Hugging Face as a checkpoint with its config; returns as `compare`."""
    source = paths[0]
    theirs = _read_json(source, CONFIG)
    family = huggingface.family_of(theirs, os.path.join(source, CONFIG))
    parameters = read_parameters(source)
    config, arrays = original_weights(source, family, parameters)
    if arrays is None:
        config = huggingface.from_config(theirs, os.path.join(source, CONFIG))
        arrays = huggingface.from_parameters(config, family, parameters)
    _write_checkpoint(folder, BASENAME, arrays)
    model_folder.write_config(folder, config)
    settings = _read_json(source, "tokenizer_config.json", {})
    copy_vocabulary(source, folder, settings, theirs, config, arrays)
    return compare(source, config, arrays)


def original_weights(source, family, parameters):
    """Return config and weights as they were before `to_huggingface`, or (None, None).

    There are none in a foreign folder, nor where a training there has changed what was one before:
    layers that shared weights, or a product of which the factors are kept.
    """
    if not os.path.exists(os.path.join(source, OUR_CONFIG)):
        return None, None
    config = modeling.AlbertConfig.from_json_file(os.path.join(source, OUR_CONFIG))
    try:
        factors = None
        if huggingface.is_factorized(config):
            factors = read_factors(source, family, parameters)
        return config, huggingface.from_parameters(config, family, parameters, factors)
    except UserError as error:
        tf.logging.warning(
            "%s is no longer the model that %s describes (%s): it is taken as the %s that it is "
            "there, whose word embeddings are one table",
            source,
            OUR_CONFIG,
            error,
            huggingface.FAMILIES[family],
        )
        return None, None


def read_factors(source, family, parameters):
    """Return the two matrices that the word embeddings are the product of; raises UserError."""
    path = os.path.join(source, OUR_FACTORS)
    factors, metadata = _load(path)
    if metadata.get("word_embeddings_sha256") != huggingface.words_sha256(family, parameters):
        raise UserError("{} are not the factors of its word embeddings".format(path))
    return factors


def read_parameters(source):
    """Return a dict of parameter name to float32 array of a folder of Hugging Face."""
    path = os.path.join(source, WEIGHTS)
    if os.path.exists(path):
        parameters = _load(path)[0]
    elif os.path.exists(os.path.join(source, "pytorch_model.bin")):
        parameters = _load_pickle(os.path.join(source, "pytorch_model.bin"))
    else:
        raise UserError("{} has neither {} nor pytorch_model.bin".format(source, WEIGHTS))
    return {name: np.asarray(array, np.float32) for name, array in parameters.items()}


def _load(path):
    """Return the arrays and the metadata of a file of safetensors."""
    library = _safetensors()
    try:
        with library.safe_open(path, framework="np") as reader:
            arrays = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
            return arrays, reader.metadata() or {}
    except (OSError, TypeError, library.SafetensorError) as error:
        raise UserError("{} is not readable: {}".format(path, error)) from error


def _load_pickle(path):
    try:
        import torch
    except ImportError:
        raise UserError(
            "{}: only torch reads it (pip install torch), safetensors it need not".format(path)
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle and torch raise many kinds
        raise UserError("{} is not readable: {}".format(path, str(error).split("\n")[0])) from error
    return {name: tensor.float().numpy() for name, tensor in state.items()}


def _read_json(folder, name, default=None):
    path = os.path.join(folder, name)
    if default is not None and not os.path.exists(path):
        return default
    try:
        with open(path, encoding="utf-8") as stream:
            return dict(json.load(stream))
    except (OSError, ValueError) as error:
        raise UserError("{} is not a folder of Hugging Face: {}".format(folder, error)) from error


def copy_vocabulary(source, folder, settings, theirs, config, arrays):
    """Copy the vocabulary; beside a classifier write what predict.py needs."""
    vocabulary = os.path.join(source, model_folder.WORDPIECE)
    if not os.path.exists(vocabulary):
        tf.logging.warning("%s has no %s: none is copied", source, model_folder.WORDPIECE)
        return
    shutil.copyfile(vocabulary, os.path.join(folder, model_folder.WORDPIECE))
    if "output_weights" not in arrays:
        return
    names = theirs.get("id2label") or {}
    labels = [names.get(str(i), str(i)) for i in range(len(arrays["output_weights"]))]
    length = min(settings.get("model_max_length", 128), config.max_position_embeddings)
    task = theirs.get("finetuning_task") or "sentence_pair"
    lower = settings.get("do_lower_case", True)
    model_folder.write(folder, config.to_dict(), task, labels, length, vocabulary, lower)


# ------------------------------------------------------------------------- both computed


def compare(folder, config, arrays):
    """Compute both models on the same inputs, and print the largest difference of each head.

    Args:
        folder: str, of Hugging Face.
        config: `modeling.AlbertConfig`.
        arrays: dict of variable name to array.

    Returns:
        dict of head to float; empty where torch or transformers is missing.

    Raises:
        UserError: if a difference is larger than TOLERANCE.
    """
    inputs = fixed_inputs(config)
    theirs = their_logits(folder, inputs)
    if theirs is None:
        print(
            "NOT VERIFIED: torch and transformers are not installed "
            "(pip install -r requirements-interop.txt)"
        )
        return {}
    ours = our_logits(config, arrays, inputs)
    found = {head: float(np.abs(ours[head] - theirs[head]).max()) for head in sorted(ours)}
    for head, difference in found.items():
        print("{}: largest difference {:.2g}".format(head, difference))
        if not difference <= TOLERANCE:
            raise UserError(
                "{}: {} differ by up to {:.2g}, more than {}".format(
                    folder, head, difference, TOLERANCE
                )
            )
    return found


def fixed_inputs(config, batch_size=3, length=24):
    """Return input_ids, input_mask and segment_ids, int32 [3, S], the same ones each time."""
    rng = np.random.RandomState(0)
    shape = (batch_size, min(length, config.max_position_embeddings))
    columns = np.arange(shape[1])
    lengths = np.array([shape[1], max(shape[1] * 2 // 3, 1), max(shape[1] // 3, 1)])[:, np.newaxis]
    mask = (columns < lengths).astype(np.int32)
    segments = ((columns >= lengths // 2) & (columns < lengths)) * (config.type_vocab_size > 1)
    return rng.randint(0, config.vocab_size, shape).astype(np.int32), mask, segments.astype("int32")


def our_logits(config, arrays, inputs):
    """Return a dict of what the model of some weights computes, by head.

    Args:
        config: `modeling.AlbertConfig`.
        arrays: dict of variable name to array.
        inputs: input_ids, input_mask and segment_ids, int32 [B, S].
    """
    heads = inspection.find_heads(arrays)
    with tf.Graph().as_default():
        model = modeling.AlbertModel(config, False, *map(tf.constant, inputs), scope="bert")
        found = {"sequence_output": model.sequence_output}
        if "masked_lm" in heads:
            with tf.variable_scope("cls/predictions"):
                hidden = tf.reshape(model.sequence_output, [-1, config.hidden_size])
                found["masked_lm"] = modeling.masked_lm_logits(model, hidden)  # [B*S, V]
        if "sentence_order" in heads:
            labels = tf.zeros([len(inputs[0])], tf.int32)
            found["sentence_order"] = modeling.sentence_order_head(model, labels).logits
        if "classifier" in heads:
            number = len(arrays["output_weights"])
            found["classifier"] = modeling.classification_head(model, number).logits
        fed = {tf.placeholder(tf.float32, x.shape): x for x in tf.trainable_variables()}
        start = [tf.assign(variable, place) for place, variable in fed.items()]
        with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
            # What only fills masks has no pooler, and none of these read it.
            empty = {x.op.name: np.zeros(x.shape) for x in fed.values() if "/pooler/" in x.op.name}
            filled = dict(empty, **arrays)
            session.run(start, {place: filled[x.op.name] for place, x in fed.items()})
            return session.run(found)


def their_logits(folder, inputs):
    """Return the same of the model of a folder of Hugging Face; None where it is not installed.

    Raises:
        UserError: if that model has parameters which the folder has not, or the other way round.
    """
    try:
        import torch
        import transformers
    except ImportError:
        return None
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    class_name = _read_json(folder, CONFIG)["architectures"][0]
    model, report = getattr(transformers, class_name).from_pretrained(
        folder, output_loading_info=True
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            raise UserError("{}: {}: {}".format(folder, problem, sorted(report[problem])[:3]))
    ids, mask, segments = (torch.from_numpy(array.astype(np.int64)) for array in inputs)
    with torch.no_grad():
        found = model.eval()(
            input_ids=ids, attention_mask=mask, token_type_ids=segments, output_hidden_states=True
        )
    theirs = {"sequence_output": found.hidden_states[-1].numpy()}
    if class_name.endswith("ForSequenceClassification"):
        theirs["classifier"] = found.logits.numpy()
    if class_name.endswith("ForMaskedLM"):
        theirs["masked_lm"] = found.logits.flatten(0, 1).numpy()
    if "prediction_logits" in found:
        theirs["masked_lm"] = found.prediction_logits.flatten(0, 1).numpy()
    for name in ("sop_logits", "seq_relationship_logits"):
        if name in found:
            theirs["sentence_order"] = found[name].numpy()
    return theirs


# Command -> (function, whether it makes --output_dir).
COMMANDS = {
    "inspect": (inspect, False),
    "to-huggingface": (to_huggingface, True),
    "from-huggingface": (from_huggingface, True),
    "slim": (slim, True),
    "average": (average, True),
}


if __name__ == "__main__":
    cli.run(main, define_flags, WORDS)
