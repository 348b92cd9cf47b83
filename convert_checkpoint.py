"""Look into checkpoints, slim and average them, and convert them to Hugging Face and back.

    python convert_checkpoint.py inspect albert_tiny_zh
    python convert_checkpoint.py to-huggingface albert_tiny_zh --output_dir=albert_tiny_hf \\
        --bert_config_file=albert_config_tiny.json --vocab_file=vocab.txt
    python convert_checkpoint.py to-huggingface lcqmc_runs --output_dir=lcqmc_hf
    python convert_checkpoint.py from-huggingface albert_tiny_hf --output_dir=albert_tiny_again
    python convert_checkpoint.py slim my_model/model.ckpt-125000 --output_dir=slim --float16
    python convert_checkpoint.py average my_model/model.ckpt-12{3,4,5}000 --output_dir=average

PATH is a checkpoint or a folder with one. If it is a run's folder, its best checkpoint is taken.
OUTPUT_DIR appears whole or not at all. The folder of a fine-tuning run has the config, the
vocabulary and the labels, so it needs no --bert_config_file and no --vocab_file. Where torch and
transformers are installed, a conversion computes both models and ends with status 2 if an output
differs by more than 1e-4.
"""

import contextlib
import json
import os

from common import tensorflow_settings

tensorflow_settings.set_environment()

import tensorflow.compat.v1 as tf

import modeling
import tokenization
from checkpointing import arrays as weights
from checkpointing import inspection, model_files, restore, run_folder
from checkpointing.checkpoint_reader import Checkpoint, is_slot
from common import cli, files
from common.errors import UserError
from finetuning import inputs
from huggingface import check, configs
from huggingface import folder as huggingface_folder
from kinds.registry import OF_HEADS

BASENAME = "albert_model.ckpt"
TOLERANCE = 1e-4
WORDS = "COMMAND PATH..."
CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "albert_config")
# Fields in which most configs differ.
SIZES = ("layout", "hidden_size")


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("output_dir", None, "Folder to make; it must not exist.")
    define.string("bert_config_file", None, "JSON file of the model, for to-huggingface.")
    define.string("vocab_file", None, "Vocabulary of the model, for to-huggingface.")
    define.enum(
        "architecture",
        None,
        sorted(configs.FAMILIES),
        "to-huggingface: what a model of layout albert_zh becomes. bert, the default, stores a "
        "shared layer once for each layer that uses it; albert stores it once.",
    )
    define.bool("do_lower_case", True, "Lower-case the text and strip accents.")
    define.bool("float16", False, "slim: write weights of half precision, in half the bytes.")
    define.bool("json", False, "inspect: print a JSON object instead of a table.")


def main(args, words):
    """Run the command that the first word names on the paths after it."""
    command, paths = words[0] if words else "", words[1:]
    if command not in COMMANDS:
        raise UserError("{!r}: give one of {}".format(command, ", ".join(COMMANDS)))
    for name, commands in FLAGS_OF.items():
        if args[name].present and command not in commands:
            text = "--{} is for {}, so this run ignores it: leave it out"
            raise UserError(text.format(name, " and ".join(commands)))
    if len(paths) < 2 if command == "average" else len(paths) != 1:
        wanted = "two checkpoints or more" if command == "average" else "one path"
        hint = ""
        if len(paths) == 2 and command != "inspect" and not args.output_dir:
            hint = ": to make the folder {0}, give --output_dir={0}".format(paths[1])
        raise UserError("{}: give {}, found {}{}".format(command, wanted, len(paths), hint))
    if command == "inspect":
        inspect(args, run_folder.find_best(*paths))
        return
    target = (args.output_dir or "").rstrip("/")
    if not target:
        raise UserError("--output_dir is needed")
    if command != "to-huggingface":
        files.refuse_pattern(target)
    sources = paths if command == "from-huggingface" else list(map(run_folder.find_best, paths))
    with files.whole_folder(target) as folder:
        COMMANDS[command](args, folder, *sources)
    made = ", ".join(sorted(os.listdir(target)))
    print("made {} from {}: {}".format(target, ", ".join(sources), made))


# ------------------------------------------------------------------------- without a model


def inspect(args, prefix):
    """Print what a checkpoint is."""
    checkpoint = Checkpoint(prefix)
    checkpoint.check_whole()
    parts = files.glob(checkpoint.prefix + ".data-*") + [checkpoint.prefix + ".index"]
    checkpoint.check_known()
    shapes = checkpoint.model_shapes()
    summary = inspection.summarize(shapes)
    summary.update(
        checkpoint=checkpoint.prefix,
        step=checkpoint.step(),
        weights=checkpoint.count_weights(),
        variables=len(shapes),
        dtypes=sorted({checkpoint.dtypes[name].name for name in checkpoint.weight_names()}),
        bytes=sum(map(files.size, parts)),
        configs=fitting_configs(shapes, summary["fields"], _folder_of_config(checkpoint.prefix)),
    )
    if args.json:
        print(json.dumps(summary, indent=2, sort_keys=True))
        return
    if not summary["configs"]:
        summary["configs"] = "none here fits: write one with the fields below and the unknown ones"
    rows = [(name, summary[name]) for name in sorted(summary) if name != "fields"]
    rows += [("  " + name, value) for name, value in sorted(summary["fields"].items())]
    for name, value in rows:
        shown = ", ".join(value) if isinstance(value, list) else value
        print("{:<26}{}".format(name, "-" if shown in (None, "") else shown))


def _folder_of_config(prefix):
    """Return the folder of a checkpoint, or of its run if the config is there."""
    folder, config_file = os.path.dirname(prefix), model_files.find(prefix, model_files.CONFIG)
    is_here = not config_file or files.exists(os.path.join(folder, model_files.CONFIG))
    return folder if is_here else os.path.dirname(folder)


def fitting_configs(shapes, fields, folder):
    """Return the configs in albert_config/ and in a folder that have the shapes of a checkpoint.

    Args:
        shapes: dict of variable name to list of int.
        fields: dict, the fields of the checkpoint's config that `inspection.summarize` found.
        folder: str.
    """
    ours, root = files.glob(os.path.join(CONFIGS, "*.json")), os.path.dirname(CONFIGS)
    names = {path: os.path.relpath(path, root) for path in sorted(ours)}
    others = files.glob(os.path.join(folder, "*config*.json"))
    names.update((path, path) for path in sorted(others))
    fitting = []
    for path in names:
        with contextlib.suppress(UserError):  # The file is not a config of a model.
            config = modeling.AlbertConfig.from_json_file(path)
            # The graph of a model takes up to a second; most configs differ in their sizes.
            equal = [fields.get(name) in (None, getattr(config, name)) for name in SIZES]
            if all(equal) and _body(modeling.parameter_shapes(config)) == _body(shapes):
                fitting.append(names[path])
    return fitting


def _body(shapes):
    """Return the shapes of the weights that all heads share."""
    return {
        name: list(shape)
        for name, shape in shapes.items()
        if name.startswith("bert/") and not is_slot(name, shapes)
    }


def slim(args, folder, prefix):
    """Write a checkpoint's weights alone."""
    arrays = weights.read(prefix)
    if args.float16:
        arrays = {name: weights.as_float16(array, name) for name, array in arrays.items()}
    _write_checkpoint(folder, os.path.basename(prefix), arrays)
    _copy_description(prefix, folder)


def average(args, folder, *prefixes):
    """Write the mean of several checkpoints' weights."""
    model_files.check_same(prefixes)
    _write_checkpoint(folder, BASENAME, weights.average(prefixes))
    _copy_description(prefixes[0], folder)


def _copy_description(prefix, folder):
    """Copy the other files of a checkpoint: config, labels, vocabulary."""
    for name in model_files.NAMES:
        path = model_files.find(prefix, name)
        if path:
            tf.io.gfile.copy(path, os.path.join(folder, name))


def _write_checkpoint(folder, basename, arrays):
    prefix = os.path.join(folder, basename)
    weights.write(prefix, arrays)
    run_folder.write_state(folder, [prefix])


# ---------------------------------------------------------------------------- Hugging Face


def to_huggingface(args, folder, prefix):
    """Write a checkpoint as a folder of Hugging Face; returns the largest differences."""
    Checkpoint(prefix).check_known()
    arrays = weights.read(prefix)
    model = read_or_make_description(args, prefix, arrays)
    config = modeling.AlbertConfig.from_dict(model.config, prefix)
    restore.check_layouts(modeling.parameter_shapes(config), Checkpoint(prefix))
    family = args.architecture or configs.ARCHITECTURES[config.layout][0]
    class_name = huggingface_folder.write_model(folder, family, config, arrays, model)
    return verify(folder, class_name, config, arrays)


def read_or_make_description(args, prefix, arrays):
    """Return the `model_files.Description` of a checkpoint, from its run's folder or the flags."""
    head, num_labels = inspection.tuned_head(inspection.shapes_of_arrays(arrays))
    description = head and model_files.find(prefix, model_files.DESCRIPTION)
    if description:
        for name in ("bert_config_file", "vocab_file", "do_lower_case"):
            if args[name].present:
                raise UserError("{} has it: leave --{} out".format(description, name))
        model = model_files.read(os.path.dirname(description))
        if len(model.labels) != num_labels:
            raise UserError(
                "{} names {} labels, the head in {} has {}: give the checkpoint of that run".format(
                    description, len(model.labels), prefix, num_labels
                )
            )
        return model
    config_file = args.bert_config_file or model_files.find(prefix, model_files.CONFIG)
    vocab_file = args.vocab_file or model_files.find(prefix, model_files.WORDPIECE)
    missing = [(model_files.CONFIG, "bert_config_file")] * (not config_file)
    missing += [(model_files.WORDPIECE, "vocab_file")] * (not vocab_file)
    if missing:
        names, flags = zip(*missing)
        text = "{} has no {} beside it: give --{}"
        raise UserError(text.format(prefix, " and ".join(names), " and --".join(flags)))
    config = modeling.AlbertConfig.from_json_file(config_file)
    model_files.check_config(config, prefix)
    tokenizer = tokenization.FullTokenizer(vocab_file, args.do_lower_case)
    inputs.check_vocabulary_of_start(vocab_file, tokenizer, prefix)
    return model_files.Description(
        task=OF_HEADS[head or "classifier"].own_task,
        labels=[str(i) for i in range(num_labels)],
        max_seq_length=config.max_position_embeddings,
        config=config.to_dict(),
        vocab_file=vocab_file,
        do_lower_case=args.do_lower_case,
    )


def from_huggingface(args, folder, source):
    """Write a folder of Hugging Face as a checkpoint; returns the largest differences."""
    huggingface_folder.check_folder(source)
    config, arrays, class_name = huggingface_folder.read_model(source)
    _write_checkpoint(folder, BASENAME, arrays)
    model_files.write_config(folder, config)
    vocabulary = huggingface_folder.copy_vocabulary(source, folder)
    head, _ = inspection.tuned_head(inspection.shapes_of_arrays(arrays))
    if vocabulary:
        model = huggingface_folder.read_description(source, config, arrays, vocabulary)
        huggingface_folder.check_vocabulary(model)
        if head:
            model_files.write(folder, model)
    elif head:
        raise UserError("{} has no vocabulary: put its vocab.txt there".format(source))
    return verify(source, class_name, config, arrays)


def verify(folder, class_name, config, arrays):
    """Print `check.differences`; raises UserError for one that is larger than TOLERANCE."""
    differences = check.differences(folder, class_name, config, arrays)
    if differences is None:
        print('NOT VERIFIED: torch and transformers are not installed (pip install ".[interop]")')
        return {}
    for name, difference in differences.items():
        print("{}: largest difference {:.2g}".format(name, difference))
        if not difference <= TOLERANCE:
            message = "{}: {} differ by up to {:.2g}, more than {}"
            raise UserError(message.format(folder, name, difference, TOLERANCE))
    return differences


# Command -> its function of the flags, the folder to make, and the prefixes of checkpoints, or the
# folder of Hugging Face; `inspect` makes no folder.
COMMANDS = {
    "inspect": inspect,
    "to-huggingface": to_huggingface,
    "from-huggingface": from_huggingface,
    "slim": slim,
    "average": average,
}
# Flag -> the commands that read it.
FLAGS_OF = {
    "output_dir": ["to-huggingface", "from-huggingface", "slim", "average"],
    "bert_config_file": ["to-huggingface"],
    "vocab_file": ["to-huggingface"],
    "architecture": ["to-huggingface"],
    "do_lower_case": ["to-huggingface"],
    "float16": ["slim"],
    "json": ["inspect"],
}


if __name__ == "__main__":
    cli.run(main, define_flags, WORDS)
