"""Fine-tune ALBERT on classification or multiple choice, evaluate it and predict."""

from common import tensorflow_settings

tensorflow_settings.set_environment()

from common import cli
from finetuning import engine
from finetuning.flags import define_flags as define_engine_flags
from finetuning.flags import define_label_flags
from kinds.choices import Choices
from kinds.classification import Classification
from kinds.registry import kind_of

KINDS = (Classification(), Choices())


def define_flags(flag_values):
    """Define this script's flags."""
    define_engine_flags(flag_values, KINDS)
    define_label_flags(flag_values)
    cli.flag_definer(flag_values).integer(
        "max_choices",
        10,
        "Most choices of a question in the tasks c3, chid and choices.",
        lower_bound=2,
    )


def main(args):
    """Train, evaluate and predict, as the flags ask for, once for every seed."""
    engine.run_kind(kind_of(KINDS, args.task_name), args)


if __name__ == "__main__":
    cli.run(main, define_flags)
