"""The hooks of training: the line of progress, and a checkpoint that cannot be saved."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from common.errors import UserError
from training import hooks


def test_progress_tells_pieces_a_second_and_the_share_that_is_no_padding(caplog):
    is_piece = np.arange(8) < np.array([[8], [4]])  # 12 pieces in 16 positions
    with tf.Graph().as_default():
        step = tf.assign_add(tf.train.get_or_create_global_step(), 1)
        hook = hooks.ProgressHook(
            {"loss": tf.constant(2.0)}, 9, 2, hooks.counts(tf.constant(is_piece)), every_seconds=0.0
        )
        with caplog.at_level("INFO", "tensorflow"), tf.train.MonitoredSession(
            hooks=[hook]
        ) as session:
            for _ in range(3):
                session.run(step)
    lines = [record.getMessage() for record in caplog.records if "step " in record.getMessage()]
    assert lines[0] == "step 1 of 9: loss 2"  # the first step includes the set-up
    pattern = r"step 3 of 9: loss 2, ([\d.]+) examples/s, ([\d,]+) tokens/s, 75% full, ETA .+"
    examples, tokens = re.fullmatch(pattern, lines[2]).groups()
    assert abs(int(tokens.replace(",", "")) - 6 * float(examples)) <= 1


def test_a_folder_that_is_gone_ends_the_run_with_a_line(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.train.get_or_create_global_step()
        tf.add_to_collection(tf.GraphKeys.SAVERS, tf.train.Saver([step]))
        (tmp_path / "file").write_text("")
        hook = hooks.CheckpointHook(str(tmp_path / "file" / "gone"), 1, check=lambda *_: None)
        hook.begin()
        session.run(step.initializer)
        with pytest.raises(UserError, match="cannot save a checkpoint at step 0 in .*gone .*exist"):
            hook.after_create_session(session, None)


def test_weights_that_a_run_began_with_are_not_called_good(tmp_path):
    with pytest.raises(UserError, match="diverged at step 1 .*began with.*another --output_dir$"):
        hooks.DivergenceGuard(str(tmp_path))._stop(1, "loss nan", last_good=-1)
