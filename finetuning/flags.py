"""The flags of fine-tuning."""

from absl import flags

from finetuning import encoding, tasks
from training.flags import BY_SIZE, define_optimizer_flags


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
        lower_bound=encoding.SHORTEST_SEQUENCE,
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
    """Define the flags that decide what is done and how a model is trained.

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
    define_optimizer_flags(flag_values, optimizers, optimizer="adamw", learning_rate=None)
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
        "Passes over the train file." + BY_SIZE,
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
