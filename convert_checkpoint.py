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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf
from absl import flags

import modeling
from checkpointing import arrays as weights
from checkpointing import inspection, model_files, restore, run_folder
from common import cli, files
from common.errors import UserError
from huggingface import mapping
from huggingface.check import differences
from huggingface.folder import (
    CONFIG,
    check_vocabulary,
    copy_vocabulary,
    describe,
    read_factors,
    read_json,
    read_parameters,
    write_json,
    write_parameters,
    write_tokenizer,
)

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
        sorted(mapping.FAMILIES),
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
        wanted = "one path or more" if command == "average" else "one path"
        raise UserError("{}: give {}, found {}".format(command, wanted, len(paths)))
    if not makes_folder:
        function(args, paths)
        return
    target = (args.output_dir or "").rstrip("/")
    if not target:
        raise UserError("--output_dir is needed")
    with files.whole_folder(target) as folder:
        function(args, paths, folder)
    print("made {}: {}".format(target, ", ".join(sorted(os.listdir(target)))))


# ------------------------------------------------------------------------- without a model


def inspect(args, paths):
    """Print what a checkpoint is."""
    prefix = run_folder.find_best(paths[0])
    restore.check_whole(prefix)
    stored = restore.read_shapes(prefix)
    shapes = {restore.rename(name): shape for name, shape in stored.items()}
    reader = tf.train.load_checkpoint(prefix)
    found = inspection.describe(shapes)
    has_step = reader.has_tensor(tf.GraphKeys.GLOBAL_STEP)
    types = reader.get_variable_to_dtype_map()
    found.update(
        checkpoint=prefix,
        step=int(reader.get_tensor(tf.GraphKeys.GLOBAL_STEP)) if has_step else None,
        weights=restore.count_weights(prefix),
        variables=len(shapes),
        dtypes=sorted({types[name].name for name in weights.weight_names(stored)}),
        bytes=weights.size_on_disk(prefix),
        configs=fitting_configs(shapes, found["fields"]),
    )
    if args.json:
        print(json.dumps(found, indent=2, sort_keys=True))
        return
    rows = [[name, found[name]] for name in sorted(found) if name != "fields"]
    rows += [["  " + name, value] for name, value in sorted(found["fields"].items())]
    for name, value in rows:
        shown = ", ".join(value) if isinstance(value, list) else value
        print("{:<26}{}".format(name, "-" if shown in (None, "") else shown))


def fitting_configs(shapes, fields):
    """Return the files of albert_config/ that describe a model.

    Args:
        shapes: dict of variable name to list of int.
        fields: dict, those of its config that are known from them.
    """
    stored, found = _body(shapes), []
    for path in sorted(files.glob(os.path.join(CONFIGS, "*.json"))):
        config = modeling.AlbertConfig.from_json_file(path)
        is_like = all(getattr(config, name) == value for name, value in fields.items())
        if is_like and _body(modeling.parameter_shapes(config)) == stored:
            found.append(os.path.relpath(path, os.path.dirname(CONFIGS)))
    return found


def _body(shapes):
    """Return the shapes of what is under the heads, and weights."""
    return {
        name: list(shapes[name])
        for name in weights.weight_names(shapes)
        if name.startswith("bert/")
    }


def slim(args, paths, folder):
    """Write a checkpoint's weights alone."""
    prefix = run_folder.find_best(paths[0])
    _write_checkpoint(folder, os.path.basename(prefix), weights.read(prefix))
    copy_description(prefix, folder)


def average(args, paths, folder):
    """Write the mean of several checkpoints' weights."""
    prefixes = [run_folder.find_best(path) for path in paths]
    model_files.check_same(prefixes)
    _write_checkpoint(folder, BASENAME, weights.average(prefixes))
    copy_description(prefixes[0], folder)


def copy_description(prefix, folder):
    """Copy what belongs to a checkpoint of a run: config, labels, vocabulary."""
    for name in model_files.NAMES:
        path = model_files.find(prefix, name)
        if path:
            tf.io.gfile.copy(path, os.path.join(folder, name))


def _write_checkpoint(folder, basename, arrays):
    prefix = os.path.join(folder, basename)
    weights.write(prefix, arrays)
    run_folder.write_state(folder, [prefix])


# ---------------------------------------------------------------------------- Hugging Face


def to_huggingface(args, paths, folder):
    """Write a checkpoint as a folder of Hugging Face; returns what `check` does."""
    prefix = run_folder.find_best(paths[0])
    arrays = weights.read(prefix)
    model = described_model(args, prefix, arrays)
    config = modeling.AlbertConfig.from_dict(model.config, prefix)
    family = args.architecture or mapping.ARCHITECTURES[config.layout][0]
    class_name, parameters = mapping.to_parameters(config, family, arrays)
    factors = None
    if mapping.is_factorized(config):
        factors = {name: arrays[name] for name in mapping.FACTORS}
    write_parameters(folder, family, parameters, factors)
    theirs = mapping.to_config(config, family, class_name, model.labels, model.task)
    write_json(folder, CONFIG, theirs)
    write_tokenizer(folder, model)
    model_files.write_config(folder, config)
    return check(folder, class_name, config, arrays)


def described_model(args, prefix, arrays):
    """Return the `model_files.ModelFolder` of a checkpoint: of its run, or of the flags."""
    num_labels = len(arrays.get("output_weights", ()))
    description = num_labels and model_files.find(prefix, model_files.DESCRIPTION)
    if description:
        for name in ("bert_config_file", "vocab_file"):
            if args[name].present:
                raise UserError("{} has it: leave --{} out".format(description, name))
        model = model_files.read(os.path.dirname(description))
        if len(model.labels) != num_labels:
            raise UserError(
                "{} names {} labels, the classifier in {} has {}: give the checkpoint of that "
                "run".format(description, len(model.labels), prefix, num_labels)
            )
        return model
    config_file = args.bert_config_file or model_files.find(prefix, model_files.CONFIG)
    vocab_file = args.vocab_file or model_files.find(prefix, model_files.WORDPIECE)
    if not config_file or not vocab_file:
        raise UserError("--bert_config_file and --vocab_file are needed for {}".format(prefix))
    config = modeling.AlbertConfig.from_json_file(config_file)
    model_files.check_config(config, prefix)
    return model_files.ModelFolder(
        task="sentence_pair",
        labels=[str(i) for i in range(num_labels)],
        max_seq_length=config.max_position_embeddings,
        config=config.to_dict(),
        vocab_file=vocab_file,
        do_lower_case=args.do_lower_case,
    )


def from_huggingface(args, paths, folder):
    """Write a folder of Hugging Face as a checkpoint with its config; returns what `check` does."""
    source = paths[0]
    config, arrays, class_name = read_huggingface(source)
    _write_checkpoint(folder, BASENAME, arrays)
    model_files.write_config(folder, config)
    vocabulary = copy_vocabulary(source, folder)
    num_labels = len(arrays.get("output_weights", ()))
    if vocabulary:
        described = describe(source, config, num_labels, vocabulary)
        check_vocabulary(described)
    if num_labels:
        if not vocabulary:
            raise UserError("{} has no vocabulary: put its vocab.txt there".format(source))
        model_files.write(folder, described)
    return check(source, class_name, config, arrays)


def read_huggingface(folder):
    """Return our config and weights of a model there, and its class's name.

    They are what they were before `to_huggingface`, but not in a foreign folder, nor where a
    training there has changed what was one before: layers that shared weights, or a product of
    which the factors are kept.
    """
    theirs = read_json(folder, CONFIG)
    source = os.path.join(folder, CONFIG)
    family = mapping.family_of(theirs, source)
    parameters = read_parameters(folder)
    config, arrays = original_weights(folder, family, theirs, parameters)
    if arrays is None:
        config = mapping.from_config(theirs, source)
        arrays = mapping.from_parameters(config, family, parameters)
    return config, arrays, mapping.class_name(family, inspection.find_heads(arrays))


def original_weights(folder, family, theirs, parameters):
    """Return config and weights as they were before `to_huggingface`, or (None, None).

    Args:
        folder: str.
        family: str, key of `mapping.FAMILIES`.
        theirs: dict, the folder's config.json.
        parameters: dict of parameter name to array.
    """
    path = os.path.join(folder, model_files.CONFIG)
    if not os.path.exists(path):
        return None, None
    config = modeling.AlbertConfig.from_json_file(path)
    try:
        mapping.check_same_model(config, family, theirs)
        factors = None
        if mapping.is_factorized(config):
            factors = read_factors(folder, family, parameters)
        return config, mapping.from_parameters(config, family, parameters, factors)
    except UserError as error:
        tf.logging.warning(
            "%s is no longer the model that %s describes (%s): it is taken as the %s that it has "
            "become",
            folder,
            model_files.CONFIG,
            error,
            mapping.FAMILIES[family],
        )
        return None, None


def check(folder, class_name, config, arrays):
    """Compute both models on the same inputs, and print the largest difference of each output.

    Args:
        folder, class_name, config, arrays: as `check.differences`.

    Returns:
        dict of output to float; empty where torch or transformers is missing.

    Raises:
        UserError: if a difference is larger than TOLERANCE.
    """
    found = differences(folder, class_name, config, arrays)
    if found is None:
        print(
            "NOT VERIFIED: torch and transformers are not installed "
            "(pip install -r requirements-interop.txt)"
        )
        return {}
    for name, difference in found.items():
        print("{}: largest difference {:.2g}".format(name, difference))
        if not difference <= TOLERANCE:
            raise UserError(
                "{}: {} differ by up to {:.2g}, more than {}".format(
                    folder, name, difference, TOLERANCE
                )
            )
    return found


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
