"""The line of progress."""

import re

import numpy as np
import tensorflow.compat.v1 as tf

from training import hooks


def test_progress_tells_pieces_a_second_and_the_share_that_is_no_padding(caplog):
    is_piece = np.arange(8) < np.array([[8], [4]])  # 12 pieces at 16 positions
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
