"""training/trainer.py: TensorFlow's errors that a user can correct become one line."""

import numpy as np
import pytest
import record_files
import tensorflow.compat.v1 as tf

from common.errors import UserError
from tfrecords import reader
from tfrecords.wire import pretraining_schema
from training.trainer import user_errors

COMPACT = b"\x01\xac\xff" * 9


def record(length):
    schema = pretraining_schema(length, 4)
    return record_files.serialize(schema, {one.name: np.ones(one.length, int) for one in schema})


def read(records):
    """Parse records as in a run whose first record has a length of 16."""
    examples = reader.Examples(*[pretraining_schema(16, 4)] * 2)
    with tf.Graph().as_default(), tf.Session() as session, user_errors():
        batches = tf.data.Dataset.from_tensor_slices(records).batch(2)
        features = batches.map(lambda batch: examples.parse(batch, None, None, 2))
        return session.run(tf.data.make_one_shot_iterator(features).get_next())


@pytest.mark.parametrize(
    "other, told", [(record(8), "length 8, not 16"), (COMPACT, "of its file:")]
)
def test_records_of_two_kinds_in_one_file_are_one_line(other, told):
    """A user may have joined two files: `cat a.tfrecord b.tfrecord > all.tfrecord`."""
    with pytest.raises(UserError, match="differs in format from the first one of") as error:
        read([record(16), other])
    assert told in str(error.value)
    assert read([record(16)] * 2)["input_ids"].shape == (2, 16)


def test_other_errors_stay_as_they_are():
    for error in (tf.errors.InvalidArgumentError(None, None, "shape"), ValueError("value")):
        with pytest.raises(type(error)), user_errors():
            raise error
