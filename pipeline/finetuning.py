"""What fine-tuning is told: its flags, and what suits a model's size where they are left out."""

import math
from typing import NamedTuple

from absl import flags, logging

from pipeline import estimator, features, tasks


class Defaults(NamedTuple):
    """How a model of some size is fine-tuned, and who says so."""

    model: str
    hidden_size: int  # H
    learning_rate: float  # at the end of the warm-up
    train_batch_size: int
    num_train_epochs: float
    source: str


DEFAULTS = (
    Defaults("tiny", 312, 1e-4, 64, 5.0, "albert_zh's README, LCQMC"),
    Defaults("small", 384, 1e-4, 64, 5.0, "interpolated: as tiny"),
    Defaults("base", 768, 3e-5, 64, 3.0, "interpolated between small and large, on log scales"),
    Defaults("large", 1024, 2e-5, 64, 3.0, "albert_zh's README, LCQMC"),
    Defaults("xlarge", 2048, 2e-5, 64, 3.0, "interpolated: as large"),
    Defaults(
        "xxlarge",
        4096,
        2e-5,
        32,
        3.0,
        "rate and batch: ALBERT paper, appendix, MRPC (GLUE: 1e-5 to 5e-5, batches of 16 to 128); "
        "epochs interpolated: as large",
    ),
)


def defaults_for(hidden_size):
    """Return the `Defaults` of the model whose H is nearest, as a ratio."""
    return min(DEFAULTS, key=lambda known: abs(math.log(known.hidden_size / hidden_size)))


def choose(args, hidden_size):
    """Return the `Defaults` for a model, with the flags that were given in their place.

    Args:
        args: has `learning_rate`, `train_batch_size` and `num_train_epochs`, None where left out.
        hidden_size: int, H.
    """
    known = defaults_for(hidden_size)
    names = ("learning_rate", "train_batch_size", "num_train_epochs")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    left_out = [name for name in names if name not in given]
    if left_out:
        logging.info(
            "Defaults of %s, H = %d (%s): %s",
            known.model,
            known.hidden_size,
            known.source,
            ", ".join("--{}={:g}".format(name, getattr(known, name)) for name in left_out),
        )
    return known._replace(**given)


def define_data_flags(flag_values):
    """Define the flags of the task and of its texts."""
    options = {"flag_values": flag_values}
    flags.DEFINE_string(
        "task_name", None, "Task: {}.".format(", ".join(sorted(tasks.TASKS))), **options
    )
    flags.DEFINE_string(
        "data_dir", None, "Folder of the task's train, dev and test files.", **options
    )
    for name in ("task_name", "data_dir"):
        flags.mark_flag_as_required(name, flag_values)
    flags.DEFINE_list(
        "labels",
        None,
        "Labels of sentence and sentence_pair, comma-separated, in the order of the classifier's "
        "outputs; left out: those of the train file, sorted.",
        **options,
    )
    flags.DEFINE_bool(
        "skip_bad_rows",
        False,
        "Leave out, count and list rows that do not parse instead of stopping.",
        **options,
    )
    flags.DEFINE_integer(
        "max_train_examples",
        None,
        "Train on so many examples, drawn at random by random_seed.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_string("vocab_file", None, "WordPiece vocabulary, one piece a line.", **options)
    flags.DEFINE_string(
        "spm_model_file", None, "SentencePiece model, in place of vocab_file.", **options
    )
    flags.DEFINE_bool("do_lower_case", True, "Lower-case the text and strip accents.", **options)
    flags.DEFINE_integer(
        "max_seq_length",
        128,
        "Pieces of a sequence; longer pairs lose the end of the longer text.",
        lower_bound=features.SHORTEST_SEQUENCE,
        **options,
    )
    flags.DEFINE_bool(
        "dynamic_padding",
        True,
        "Pad a batch to its longest example instead of max_seq_length: the same results, sooner. "
        "A TPU pads everything to one length.",
        **options,
    )


def define_training_flags(flag_values, optimizers):
    """Define the flags of what is done, and of how a model is trained.

    Args:
        flag_values: absl's `FlagValues`.
        optimizers: names of all optimizers.
    """
    options = {"flag_values": flag_values}
    flags.DEFINE_bool("do_train", False, "Train on the train file.", **options)
    flags.DEFINE_bool("do_eval", False, "Evaluate on the dev file.", **options)
    flags.DEFINE_bool("do_predict", False, "Predict the labels of the test file.", **options)
    flags.DEFINE_list(
        "seeds",
        [],
        "Seeds of several runs, such as 1,2,3, in OUTPUT_DIR/seed_1 and so on; results.json has "
        "mean and deviation. Left out: one run, of random_seed.",
        **options,
    )
    flags.DEFINE_float(
        "evals_per_epoch",
        2.0,
        "With do_train and do_eval: evaluations an epoch; the best checkpoint is kept in "
        "OUTPUT_DIR/best, scored and used to predict. 0: only at the end.",
        lower_bound=0.0,
        **options,
    )
    flags.DEFINE_integer(
        "patience",
        0,
        "Stop after so many evaluations without a better one; 0: never.",
        lower_bound=0,
        **options,
    )
    _define_optimization_flags(flag_values, optimizers)


def _define_optimization_flags(flag_values, optimizers):
    options = {"flag_values": flag_values}
    estimator.define_optimizer_flags(flag_values, optimizers, optimizer="adamw", learning_rate=None)
    flags.DEFINE_float(
        "layerwise_lr_decay",
        1.0,
        "The learning rate of each layer is that of the layer above times this; 1: all are equal.",
        lower_bound=0.0,
        upper_bound=1.0,
        **options,
    )
    flags.DEFINE_float(
        "num_train_epochs",
        None,
        "Passes over the train file." + estimator.BY_SIZE,
        lower_bound=0.0,
        **options,
    )
    flags.DEFINE_float(
        "warmup_proportion",
        0.1,
        "Share of the steps over which the learning rate rises.",
        lower_bound=0.0,
        upper_bound=1.0,
        **options,
    )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        flags.DEFINE_float(name, None, "In place of the config's.", **options)
    flags.DEFINE_float(
        "classifier_dropout_prob",
        0.1,
        "Dropout of what the classifier gets.",
        lower_bound=0.0,
        upper_bound=0.99,
        **options,
    )
