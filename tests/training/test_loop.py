"""training/loop.py and its hooks, on a model of one weight that trains in milliseconds."""

import json
import re
import signal
import threading

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from helpers import variables_of

from common.errors import UserError
from common.signals import OrderlyEnd
from training import best_checkpoint, hooks, loop
from training.trainer import Trainer


def input_fn():
    return tf.data.Dataset.from_tensors({"x": tf.ones([1])}).repeat()


def model_fn(features, mode, params):
    """Learn a target that moves with the step, so that each step's weight depends on it."""
    weight = tf.get_variable("weight", [3], initializer=tf.ones_initializer())
    step = tf.train.get_or_create_global_step()
    target = 10 * tf.cos(tf.cast(step, tf.float32))
    loss = tf.reduce_sum(tf.square(weight - target)) * features["x"][0]
    hooks.watch({"loss": loss, "learning_rate": tf.constant(params["learning_rate"])})
    optimizer = tf.train.MomentumOptimizer(params["learning_rate"], 0.5)
    return tf.estimator.EstimatorSpec(
        mode,
        loss=loss,
        train_op=optimizer.minimize(loss, step),
        training_hooks=[CallAt(params.get("at", {}))],
    )


class CallAt(tf.train.SessionRunHook):
    """Calls functions after certain steps; `functions` is a dict from step to function."""

    def __init__(self, functions):
        self._functions = functions

    def begin(self):
        self._step = tf.identity(tf.train.get_global_step())

    def after_run(self, run_context, run_values):
        step = int(run_context.session.run(self._step))
        self._functions.get(step, lambda: None)()


def make_trainer(folder, learning_rate=0.1, **params):
    config = tf.estimator.RunConfig(
        str(folder), save_checkpoints_steps=None, save_checkpoints_secs=None, keep_checkpoint_max=3
    )
    params["learning_rate"] = learning_rate
    return Trainer(tf.estimator.Estimator(model_fn, config=config, params=params))


class Evaluator:
    """Returns results with given losses, and records the steps at which it is called."""

    def __init__(self, folder, losses=(), fail_at=None):
        self.folder, self.losses, self.fail_at, self.steps = folder, losses, fail_at, []

    def __call__(self):
        step = int(tf.train.load_variable(str(self.folder), "global_step"))
        self.steps.append(step)
        if step == self.fail_at:
            raise KeyboardInterrupt
        loss = dict(self.losses).get(step, 1.0)
        return {"global_step": step, "loss": loss}


def send(number):
    """Send a signal to this thread; the signal arrives before this function returns."""
    signal.pthread_kill(threading.get_ident(), number)


def run(folder, last_step=7, save_steps=100, every=0, evaluator=None, patience=0, **params):
    evaluation = evaluator and best_checkpoint.Evaluation(
        evaluator, every, "loss", patience=patience
    )
    with OrderlyEnd() as end:
        return loop.train_and_evaluate(
            make_trainer(folder, **params), input_fn, last_step, save_steps, end, evaluation
        )


def saved_steps(folder):
    return sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob("model.ckpt-*.index"))


def best(folder):
    return json.loads((folder / "best" / "best.json").read_text())


def assert_equal_runs(first, second):
    first, second = variables_of(first), variables_of(second)
    assert sorted(first) == sorted(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], name)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a run of seven steps without a stop. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("plain")
    assert run(folder, save_steps=3) is None
    return folder


def test_saves_at_multiples_and_at_the_end(plain):
    assert saved_steps(plain) == [3, 6, 7]  # keep_checkpoint_max=3 removed step 0


def test_evaluations_change_no_step(plain, tmp_path):
    evaluator = Evaluator(tmp_path, {2: 1.0, 4: 3.0, 6: 2.0, 7: 5.0}.items())
    results = run(tmp_path, every=2, evaluator=evaluator)
    assert results == {"global_step": 7, "loss": 5.0}
    assert evaluator.steps == [2, 4, 6, 7]
    assert_equal_runs(tmp_path, plain)
    history = best_checkpoint.read_history(str(tmp_path))
    assert [found["loss"] for found in history.values()] == [1.0, 3.0, 2.0, 5.0]
    assert best(tmp_path) == {"global_step": 2, "loss": 1.0}
    assert saved_steps(tmp_path / "best") == [2] and saved_steps(tmp_path) == [4, 6, 7]
    assert variables_of(tmp_path / "best")["global_step"] == 2


def test_higher_may_be_better(tmp_path):
    evaluator = Evaluator(tmp_path, {2: 3.0, 4: 1.0}.items())
    evaluation = best_checkpoint.Evaluation(evaluator, 2, "loss", higher_is_better=True)
    with OrderlyEnd() as end:
        loop.train_and_evaluate(make_trainer(tmp_path), input_fn, 4, 100, end, evaluation)
    assert best(tmp_path)["global_step"] == 2


def test_no_number_is_never_the_best(tmp_path):
    run(tmp_path, every=2, last_step=4, evaluator=Evaluator(tmp_path, {2: float("nan")}.items()))
    assert best(tmp_path)["global_step"] == 4


@pytest.mark.parametrize("content", ['{"global_step": 2, ', '{"global_step": 2}', "[]"])
def test_a_damaged_best_json_is_told_before_training(tmp_path, content):
    run(tmp_path, every=2, last_step=2, evaluator=Evaluator(tmp_path))
    path = tmp_path / "best" / "best.json"
    path.write_text(content)
    with pytest.raises(UserError, match="best.json is damaged .*: remove it"):
        run(tmp_path, every=2, last_step=4, evaluator=Evaluator(tmp_path))
    assert saved_steps(tmp_path)[-1] == 2
    path.unlink()
    run(tmp_path, every=2, last_step=4, evaluator=Evaluator(tmp_path))
    assert best(tmp_path)["global_step"] == 4


STALLING = {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.0, 5: 0.5}.items()


def test_training_stops_early_and_stays_stopped(tmp_path):
    first, again = Evaluator(tmp_path, STALLING), Evaluator(tmp_path, STALLING)
    results = run(tmp_path, every=1, evaluator=first, patience=2)
    assert first.steps == [1, 2, 3, 4] and best(tmp_path)["global_step"] == 2
    assert results == {"global_step": 4, "loss": 1.0}
    assert run(tmp_path, every=1, evaluator=again, patience=2) == results
    assert again.steps == [] and saved_steps(tmp_path)[-1] == 4
    run(tmp_path, every=1, evaluator=again, patience=3)  # more of it
    assert again.steps == [5, 6, 7] and best(tmp_path)["global_step"] == 5


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4])
def test_a_killed_run_stops_where_it_would_have(tmp_path, fail_at):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, every=1, evaluator=Evaluator(whole, STALLING), patience=2)
    with pytest.raises(KeyboardInterrupt):
        run(parts, every=1, evaluator=Evaluator(parts, STALLING, fail_at), patience=2)
    run(parts, every=1, evaluator=Evaluator(parts, STALLING), patience=2)
    assert_equal_runs(parts, whole)
    assert best_checkpoint.read_history(str(parts)) == best_checkpoint.read_history(str(whole))
    assert best(parts) == best(whole)


def test_what_is_no_number_counts_as_nothing_better(tmp_path):
    losses = {step: float("nan") for step in range(1, 8)}
    losses[1] = 1.0
    evaluator = Evaluator(tmp_path, losses.items())
    run(tmp_path, every=1, evaluator=evaluator, patience=2)
    assert evaluator.steps == [1, 2, 3]


def test_an_evaluation_that_was_cut_short_is_made_up(plain, tmp_path):
    losses = {2: 1.0, 4: 0.5, 6: 2.0, 7: 5.0}.items()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, every=2, evaluator=Evaluator(tmp_path, losses, fail_at=4))
    again = Evaluator(tmp_path, losses)
    run(tmp_path, every=2, evaluator=again)
    assert again.steps == [4, 6, 7]
    assert list(best_checkpoint.read_history(str(tmp_path))) == [2, 4, 6, 7]
    assert best(tmp_path)["global_step"] == 4
    assert_equal_runs(tmp_path, plain)


def test_a_resumed_run_does_not_save_again_what_it_restored(tmp_path):
    run(tmp_path, last_step=2)
    [path] = tmp_path.glob("model.ckpt-2.data*")
    before = path.stat().st_mtime_ns
    run(tmp_path, last_step=3)
    assert path.stat().st_mtime_ns == before and saved_steps(tmp_path) == [0, 2, 3]


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_training_saves_and_ends(plain, tmp_path, number, status, caplog):
    with caplog.at_level("WARNING", logger="tensorflow"), pytest.raises(SystemExit) as ended:
        run(tmp_path, at={3: lambda: send(number)})
    assert ended.value.code == status
    assert saved_steps(tmp_path) == [0, 4]
    assert "model.ckpt-4 is saved; the same command continues it" in caplog.text
    run(tmp_path)
    assert_equal_runs(tmp_path, plain)


def test_a_signal_while_evaluating_or_building_ends_at_once(tmp_path):
    def end():
        send(signal.SIGTERM)
        raise AssertionError("goes on after the signal")

    with pytest.raises(SystemExit) as ended:
        run(tmp_path, every=2, evaluator=end)
    assert ended.value.code == 143
    assert saved_steps(tmp_path) == [0, 2] and not (tmp_path / best_checkpoint.HISTORY).exists()
    with pytest.raises(SystemExit), OrderlyEnd() as signals:
        loop.train(make_trainer(tmp_path), end, 3, 100, signals)
    assert saved_steps(tmp_path) == [0, 2]


@pytest.mark.parametrize("learning_rate, saved", [(1e3, [0, 1]), (1e30, [0, 1]), (1e38, [0])])
def test_weights_of_a_run_that_diverged_are_not_gone_on_with(tmp_path, learning_rate, saved):
    """After a step the weights are finite with the first two rates, but not with the last."""
    message = r"diverged at step \d \(loss .*learning_rate 1.* last good checkpoint, (.*)$"
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path, save_steps=1, learning_rate=learning_rate)
    assert re.search(message, str(error.value)).group(1) == str(tmp_path / "model.ckpt-0")
    assert saved_steps(tmp_path) == saved
    for step in saved:
        reader = tf.train.load_checkpoint(str(tmp_path / "model.ckpt-{}".format(step)))
        for name in reader.get_variable_to_shape_map():
            assert np.all(np.isfinite(reader.get_tensor(name))), (step, name)
    run(tmp_path, last_step=3)
    assert variables_of(tmp_path)["global_step"] == 3


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "model.ckpt; No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="step 2.*No space left"):
        run(tmp_path, last_step=1)
        patch.setattr(tf.train.Saver, "save", full)
        run(tmp_path, last_step=2)
    run(tmp_path, last_step=2)
    assert saved_steps(tmp_path) == [0, 1, 2]
