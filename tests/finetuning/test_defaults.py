"""finetuning/defaults.py: learning rate, batch size and epochs by the size of a model."""

import types

import pytest

import modeling
from finetuning.defaults import DEFAULTS, choose, defaults_for


def args(**given):
    left_out = {"learning_rate": None, "train_batch_size": None, "num_train_epochs": None}
    return types.SimpleNamespace(**dict(left_out, **given))


@pytest.mark.parametrize("known", DEFAULTS, ids=lambda known: known.model)
def test_every_published_size_has_its_defaults(known, root):
    path = root / "albert_config" / "albert_config_{}.json".format(known.model)
    config = modeling.AlbertConfig.from_json_file(str(path))
    assert config.hidden_size == known.hidden_size
    assert defaults_for(config.hidden_size) is known
    assert ("interpolated" in known.source) == (known.model not in ("tiny", "large"))


@pytest.mark.parametrize("hidden_size, model", [(16, "tiny"), (500, "small"), (9999, "xxlarge")])
def test_other_sizes_take_the_nearest(hidden_size, model):
    assert defaults_for(hidden_size).model == model


def test_flags_go_before_defaults_and_the_log_tells_what_was_left_out(caplog):
    with caplog.at_level("INFO", logger="absl"):
        chosen = choose(args(learning_rate=0.5), 312)
    assert chosen[2:5] == (0.5, 64, 5.0)
    assert caplog.messages == [
        "Defaults of tiny, H = 312 (albert_zh's README, LCQMC): "
        "--train_batch_size=64, --num_train_epochs=5"
    ]
    caplog.clear()
    choose(args(learning_rate=1, train_batch_size=2, num_train_epochs=3), 312)
    assert not caplog.messages
