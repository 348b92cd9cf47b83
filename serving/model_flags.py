"""The flags that name a fine-tuned or pre-trained model, and the function that loads it."""

from common import cli
from common.errors import UserError
from finetuning_data import encoding
from serving import predictor


def define_flags(flag_values):
    """Define the flags that name a model."""
    define = cli.flag_definer(flag_values)
    define.string("model_dir", None, "The --output_dir of a fine-tuning run.")
    define.string(
        "checkpoint",
        None,
        "Checkpoint to load, or a folder with one; if left out, the best of the run if one was "
        "kept, else the latest.",
    )
    define.string(
        "bert_config_file",
        None,
        "JSON config of a model that was pre-trained only; give it with checkpoint and a "
        "vocabulary, and without model_dir.",
    )
    define.string("vocab_file", None, "WordPiece vocabulary of such a model.")
    define.string("spm_model_file", None, "SentencePiece model, in place of vocab_file.")
    define.bool("do_lower_case", True, "Lower-case the text for such a model.")
    define.integer(
        "max_seq_length",
        None,
        "Largest number of pieces of a text or pair; the longer text of a pair is cut first. Left "
        "out: that of the run, or {}.".format(predictor.MAX_SEQ_LENGTH),
        lower_bound=encoding.SHORTEST_SEQUENCE,
    )


def load_predictor(args, batch_size=predictor.BATCH_SIZE):
    """Return the `predictor.Predictor` that the flags name.

    Args:
        args: `absl.flags.FlagValues` with the flags of `define_flags`.
        batch_size: int, texts that are computed at a time.

    Raises:
        UserError: for flags that contradict each other, and as `predictor.Predictor`.
    """
    common = {"max_seq_length": args.max_seq_length, "batch_size": batch_size}
    if args.model_dir:
        for name in ("bert_config_file", "vocab_file", "spm_model_file", "do_lower_case"):
            if args[name].present:
                raise UserError("--model_dir has its own: leave --{} out".format(name))
        return predictor.Predictor(args.model_dir, args.checkpoint, **common)
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
