"""The flags of fine-tuning."""

from common import cli
from finetuning import encoding, task_files, tasks
from training.flags import BY_SIZE, define_optimizer_flags


def define_text_flags(flag_values):
    """Define the flags of reading files of texts."""
    define = cli.flag_definer(flag_values)
    define.enum(
        "header",
        "auto",
        task_files.HEADER_MODES,
        "Whether the first row of every .tsv and .txt file is a header; auto: its words decide.",
    )
    define.float(
        "max_unknown_share",
        0.3,
        "Stop if a larger share of the pieces of a file is unknown to the vocabulary.",
        lower_bound=0.0,
        upper_bound=1.0,
    )


def define_data_flags(flag_values):
    """Define the flags of the task and of its texts."""
    define = cli.flag_definer(flag_values)
    define.string(
        "task_name", None, "Task: {}.".format(", ".join(sorted(tasks.TASKS))), required=True
    )
    define.string(
        "data_dir", None, "Folder of the task's train, dev and test files.", required=True
    )
    define.list(
        "labels",
        None,
        "Labels of the tasks sentence and sentence_pair, comma-separated, in the order of the "
        "classifier's outputs; left out: those of the train file, sorted.",
    )
    define.bool(
        "skip_bad_rows",
        False,
        "Leave out rows that cannot be read, and list them in the log, instead of stopping.",
    )
    define_text_flags(flag_values)
    define.enum(
        "test_header",
        None,
        task_files.HEADER_MODES,
        "Whether the first row of the test file is a header; left out: as header says.",
    )
    define.integer(
        "max_train_examples",
        None,
        "Number of train examples, drawn at random by random_seed; left out: all.",
        lower_bound=1,
    )
    define.string("vocab_file", None, "WordPiece vocabulary, one piece a line.")
    define.string("spm_model_file", None, "SentencePiece model, instead of vocab_file.")
    define.bool("do_lower_case", True, "Lower-case the text and strip accents.")
    define.integer(
        "max_seq_length",
        128,
        "Largest number of pieces in a sequence; if a pair has more, its longer text is cut first.",
        lower_bound=encoding.SHORTEST_SEQUENCE,
    )
    define.bool(
        "dynamic_padding",
        True,
        "Pad a batch to its longest example instead of max_seq_length: faster, with the same "
        "results. A TPU pads all batches to one length.",
    )


def define_training_flags(flag_values, optimizers):
    """Define the flags of training, evaluation and prediction.

    Args:
        flag_values: absl's `FlagValues`.
        optimizers: names of all optimizers.
    """
    define = cli.flag_definer(flag_values)
    define.bool("do_train", False, "Train on the train file.")
    define.bool("do_eval", False, "Evaluate on the dev file.")
    define.bool("do_predict", False, "Predict the labels of the test file.")
    define.list(
        "seeds",
        [],
        "Seeds of several runs, such as 1,2,3, in OUTPUT_DIR/seed_1 and so on; results.json has "
        "mean and deviation. Left out: one run, with random_seed.",
    )
    define.float(
        "evals_per_epoch",
        2.0,
        "With do_train and do_eval: evaluations in an epoch; the best checkpoint is kept in "
        "OUTPUT_DIR/best, scored and used to predict. 0: evaluate only at the end.",
        lower_bound=0.0,
    )
    define.integer(
        "patience",
        0,
        "Stop training after this number of evaluations without a better score; 0: never.",
        lower_bound=0,
    )
    _define_optimization_flags(flag_values, optimizers)


def _define_optimization_flags(flag_values, optimizers):
    define = cli.flag_definer(flag_values)
    define_optimizer_flags(flag_values, optimizers, optimizer="adamw", learning_rate=None)
    define.float(
        "layerwise_lr_decay",
        1.0,
        "Factor of each layer's learning rate relative to the layer above; 1: all are equal.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    define.float("num_train_epochs", None, "Passes over the train file." + BY_SIZE, lower_bound=0.0)
    define.float(
        "warmup_proportion",
        0.1,
        "Share of the steps over which the learning rate rises.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        define.float(name, None, "Dropout rate; left out: that of bert_config_file.")
    define.float(
        "classifier_dropout_prob",
        0.1,
        "Dropout rate of the classifier's input.",
        lower_bound=0.0,
        upper_bound=0.99,
    )
