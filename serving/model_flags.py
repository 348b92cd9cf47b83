"""The flags that name a fine-tuned or pre-trained model, and the function that loads it."""

import os

from absl import logging

from common import cli, files
from common.errors import UserError
from finetuning_data import encoding
from serving import predictor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The model that is used if no flag names one. pretrained/README.md says how it was made.
SHIPPED = os.path.join(ROOT, "pretrained")
SHIPPED_VOCABULARY = os.path.join(ROOT, "albert_config", "vocab.txt")
# The flags of a model that was pre-trained only.
PRETRAINED_FLAGS = (
    "checkpoint",
    "bert_config_file",
    "vocab_file",
    "spm_model_file",
    "do_lower_case",
)


def define_flags(flag_values):
    """Define the flags that name a model."""
    define = cli.flag_definer(flag_values)
    define.string(
        "model_dir",
        None,
        "The --output_dir of a fine-tuning run. Without this flag and the flags of a pre-trained "
        "model, the small model in pretrained/ is used.",
    )
    define.string(
        "checkpoint",
        None,
        "Checkpoint to load, or a folder with one. Default: the best checkpoint of the run "
        "if it was kept, else the latest.",
    )
    define.string(
        "bert_config_file",
        None,
        "JSON config of a model that was pre-trained only; give it with checkpoint and a "
        "vocabulary, and without model_dir.",
    )
    define.string("vocab_file", None, "WordPiece vocabulary of a model that was pre-trained only.")
    define.string("spm_model_file", None, "SentencePiece model, in place of vocab_file.")
    define.bool("do_lower_case", True, "Lower-case the text for a model that was pre-trained only.")
    define.integer(
        "max_seq_length",
        None,
        "Largest number of pieces of a text or pair; the longer text of a pair is cut first. "
        "Default: the length of the run, or {}.".format(predictor.MAX_SEQ_LENGTH),
        lower_bound=encoding.SHORTEST_SEQUENCE,
    )


def load_predictor(args, batch_size=predictor.BATCH_SIZE):
    """Return the `predictor.Predictor` that the flags name; the shipped one if they name none.

    Args:
        args: `absl.flags.FlagValues` with the flags of `define_flags`.
        batch_size: int, texts that are computed at a time.

    Raises:
        UserError: for flags that contradict each other, and as in `predictor.Predictor`.
    """
    common = {"max_seq_length": args.max_seq_length, "batch_size": batch_size}
    if args.model_dir:
        for name in PRETRAINED_FLAGS:
            if args[name].present and name != "checkpoint":
                raise UserError("--model_dir has its own: leave --{} out".format(name))
        return predictor.Predictor(args.model_dir, args.checkpoint, **common)
    if not any(args[name].present for name in PRETRAINED_FLAGS) and files.is_folder(SHIPPED):
        return _load_shipped(**common)
    if not (args.checkpoint and args.bert_config_file):
        raise UserError(
            "--model_dir is needed; or, for a model that was pre-trained only, --checkpoint, "
            "--bert_config_file and --vocab_file"
        )
    return predictor.Predictor.of_pretrained(
        args.checkpoint,
        args.bert_config_file,
        args.vocab_file,
        args.do_lower_case,
        args.spm_model_file,
        **common,
    )


def _load_shipped(**common):
    """Return the `predictor.Predictor` of the model in `SHIPPED`, and say that it is used."""
    logging.info(
        "No flag names a model: the shipped one is used, which is tiny (pretrained/README.md)"
    )
    config_file = os.path.join(SHIPPED, "albert_config.json")
    return predictor.Predictor.of_pretrained(SHIPPED, config_file, SHIPPED_VOCABULARY, **common)
