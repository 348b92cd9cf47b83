"""Fine-tune ALBERT to find entities in texts, evaluate it and predict, on TPU, GPU or CPU."""

from common import tensorflow_settings

tensorflow_settings.set_environment()

from common import cli
from finetuning import engine
from finetuning.flags import define_flags as define_engine_flags
from finetuning_data.label_decoding import PREFIXES
from kinds.entities import Entities
from kinds.registry import kind_of

KINDS = (Entities(),)


def define_flags(flag_values):
    """Define this script's flags."""
    define_engine_flags(flag_values, KINDS)
    define = cli.flag_definer(flag_values)
    define.list(
        "labels",
        None,
        "Types of the entities, comma-separated, if the task does not define them. Default: "
        "the types of the train file, sorted.",
    )
    define.enum(
        "label_scheme",
        "bioes",
        sorted(PREFIXES),
        "Labels that the model learns, whatever labels the files have: bio, or bioes, which also "
        "marks the ends of entities and entities of one piece.",
    )
    define.bool(
        "crf",
        False,
        "Learn scores of neighbouring labels, too (a conditional random field). Without this flag, "
        "only impossible neighbours are excluded.",
    )
    define.float(
        "crf_rate_factor",
        10.0,
        "With crf: factor of the learning rate for the scores of neighbouring labels.",
        lower_bound=0.0,
    )


def main(args):
    """Train, evaluate and predict, as the flags ask for, once for every seed."""
    engine.run_kind(kind_of(KINDS, args.task_name), args)


if __name__ == "__main__":
    cli.run(main, define_flags)
