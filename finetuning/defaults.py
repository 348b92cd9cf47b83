"""Default learning rate, batch size and epochs of fine-tuning, by the size of the model."""

import math
from typing import NamedTuple

from absl import logging


class Defaults(NamedTuple):
    """Settings for fine-tuning a model of some size, and their source."""

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
    """Return the `Defaults` of the model whose H is nearest to `hidden_size` by ratio."""
    return min(DEFAULTS, key=lambda known: abs(math.log(known.hidden_size / hidden_size)))


def choose(args, hidden_size):
    """Return the `Defaults` for a model; flags that were given replace its values.

    Args:
        args: has `learning_rate`, `train_batch_size` and `num_train_epochs`;
            each is None if its flag is left out.
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
