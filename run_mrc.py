"""Fine-tune ALBERT to answer questions with spans of a text, evaluate it and predict."""

from common import tensorflow_settings

tensorflow_settings.set_environment()

from common import cli
from finetuning import engine
from finetuning.flags import define_flags as define_engine_flags
from kinds.registry import kind_of
from kinds.spans import DEFAULTS, Spans

KINDS = (Spans(),)


def define_flags(flag_values):
    """Define this script's flags."""
    define_engine_flags(flag_values, KINDS, max_seq_length=512)
    define = cli.flag_definer(flag_values)
    define.integer(
        "doc_stride",
        DEFAULTS["doc_stride"],
        "Pieces from the start of a window of a long context to the start of the next window.",
        lower_bound=1,
    )
    define.integer(
        "max_query_length",
        DEFAULTS["max_query_length"],
        "Most pieces of a question; the rest is cut off.",
        lower_bound=1,
    )
    define.integer(
        "max_answer_length",
        DEFAULTS["max_answer_length"],
        "Most pieces of a predicted answer.",
        lower_bound=1,
    )
    define.integer(
        "n_best",
        0,
        "With do_predict: write this number of answers to each question, with their "
        "probabilities, to nbest_predictions.json. 0: no such file.",
        lower_bound=0,
    )
    define.bool(
        "allow_no_answer",
        DEFAULTS["allow_no_answer"],
        "Whether a question may have no answer in its context, as in SQuAD 2.0 (is_impossible).",
    )
    define.float(
        "no_answer_threshold",
        DEFAULTS["no_answer_threshold"],
        "With allow_no_answer: a question has no answer if the score of no answer exceeds the "
        "score of the best answer by more than this.",
    )


def main(args):
    """Train, evaluate and predict, as the flags ask for, once for every seed."""
    engine.run_kind(kind_of(KINDS, args.task_name), args)


if __name__ == "__main__":
    cli.run(main, define_flags)
