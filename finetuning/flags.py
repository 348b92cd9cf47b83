"""The flags of fine-tuning."""

import optimization
from common import checks, cli
from finetuning_data import encoding, task_files
from training.flags import BY_SIZE, define_optimizer_flags, define_run_flags


def define_flags(flag_values, kinds, max_seq_length=128):
    """Define the flags that every kind of task has.

    Args:
        flag_values: absl's `FlagValues`.
        kinds: sequence of `kind.Kind`, the kinds of task of the script.
        max_seq_length: int, the default of the flag.
    """
    define = cli.flag_definer(flag_values)
    define.string("bert_config_file", None, "JSON config of the model.", required=True)
    names = sorted(name for kind in kinds for name in kind.tasks)
    define.string("task_name", None, "Task: {}.".format(", ".join(names)), required=True)
    define.string(
        "data_dir", None, "Folder of the task's train, dev and test files.", required=True
    )
    _define_input_flags(flag_values, max_seq_length)
    _define_training_flags(flag_values)
    define_run_flags(flag_values, train_batch_size=None, eval_batch_size=64, predict_batch_size=64)
    checks.define_flags(flag_values)


def define_header_flag(flag_values):
    """Define the flag of the header of tables."""
    define = cli.flag_definer(flag_values)
    define.enum(
        "header",
        "auto",
        task_files.HEADER_MODES,
        "Whether the first row of every .tsv and .txt file is a header; auto: its words decide.",
    )


def define_unknown_flag(flag_values):
    """Define the flag of the share of unknown pieces."""
    define = cli.flag_definer(flag_values)
    define.float(
        "max_unknown_share",
        0.3,
        "Stop if a larger share of the pieces of a file is unknown to the vocabulary.",
        lower_bound=0.0,
        upper_bound=1.0,
    )


def define_label_flags(flag_values):
    """Define the flags of classification alone: labels, and headers of tables."""
    define = cli.flag_definer(flag_values)
    define.list(
        "labels",
        None,
        "Labels of the tasks sentence and sentence_pair, comma-separated, in the order of the "
        "classifier's outputs. Default: the labels of the train file, sorted.",
    )
    define_header_flag(flag_values)
    define.enum(
        "test_header",
        None,
        task_files.HEADER_MODES,
        "Whether the first row of the test file is a header. Default: the value of header.",
    )


def _define_input_flags(flag_values, max_seq_length):
    define = cli.flag_definer(flag_values)
    define.bool(
        "skip_bad_rows",
        False,
        "Leave out rows that cannot be read, and list them in the log, instead of stopping.",
    )
    define_unknown_flag(flag_values)
    define.integer(
        "max_train_examples",
        None,
        "Number of train examples, drawn at random by random_seed. Default: all.",
        lower_bound=1,
    )
    define.string("vocab_file", None, "WordPiece vocabulary, one piece a line.")
    define.string("spm_model_file", None, "SentencePiece model, instead of vocab_file.")
    define.bool("do_lower_case", True, "Lower-case the text and strip accents.")
    define.integer(
        "max_seq_length",
        max_seq_length,
        "Largest number of pieces in a sequence; if a pair has more, its longer text is cut first.",
        lower_bound=encoding.SHORTEST_SEQUENCE,
    )
    define.bool(
        "dynamic_padding",
        True,
        "Pad a batch to its longest example instead of max_seq_length: faster, with the same "
        "results. A TPU pads all batches to one length.",
    )


def _define_training_flags(flag_values):
    define = cli.flag_definer(flag_values)
    define.bool("do_train", False, "Train on the train file.")
    define.bool("do_eval", False, "Evaluate on the dev file.")
    define.bool("do_predict", False, "Predict the labels of the test file.")
    define.list(
        "seeds",
        [],
        "Seeds of several runs, such as 1,2,3, in OUTPUT_DIR/seed_1 and so on; results.json has "
        "their mean and deviation. Default: one run, with random_seed.",
    )
    define.float(
        "evals_per_epoch",
        2.0,
        "With do_train and do_eval: evaluations in an epoch; the best checkpoint is kept in "
        "OUTPUT_DIR/best, scored and used to predict. 0: evaluate only at the end.",
        lower_bound=0.0,
    )
    define.string(
        "best_metric",
        None,
        "Score of dev that chooses the best checkpoint. Default: accuracy, or f1 for entities and "
        "answers. macro_f1 suits classes of very different sizes.",
    )
    define.integer(
        "patience",
        0,
        "Stop training after this number of evaluations without a better score (early stopping). "
        "0: never.",
        lower_bound=0,
    )
    _define_optimization_flags(flag_values)


def _define_optimization_flags(flag_values):
    define = cli.flag_definer(flag_values)
    optimizers = optimization.OPTIMIZERS
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
        define.float(name, None, "Dropout rate. Default: the rate in bert_config_file.")
    define.float(
        "classifier_dropout_prob",
        0.1,
        "Dropout rate of the classifier's input.",
        lower_bound=0.0,
        upper_bound=0.99,
    )
