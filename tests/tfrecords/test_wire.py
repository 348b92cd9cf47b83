"""The bytes of records equal those that TensorFlow makes of the same numbers."""

import numpy as np
import pytest
import record_files
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecords import wire


def random_values(schema, count, limit, seed):
    rng = np.random.RandomState(seed)
    values = {}
    for feature in schema:
        shape = (count, feature.length)
        if feature.dtype == "float32":
            values[feature.name] = rng.standard_normal(shape)
        else:
            # Small and large numbers, because their varints have different lengths.
            values[feature.name] = (rng.uniform(0, 1, shape) ** 8 * limit).astype(np.int64)
    return values


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 70),
    st.integers(0, 5),
    st.sampled_from([2, 128, 129, 16384, 21128, 2**21 + 1, 2**32]),
    st.integers(0, 1000),
)
def test_bytes_are_those_of_tensorflow(seq_length, predictions, count, limit, seed):
    schema = wire.pretraining_schema(seq_length, predictions)
    values = random_values(schema, count, limit, seed)
    expected = [
        record_files.serialize(schema, {name: array[row] for name, array in values.items()})
        for row in range(count)
    ]
    assert wire.serialize_all(schema, values) == expected


def test_bools_are_numbers():
    schema = (wire.FeatureSpec("a", "int64", 3),)
    array = np.array([[True, False, True]])
    assert wire.serialize_all(schema, {"a": array}) == [
        record_files.serialize(schema, {"a": [1, 0, 1]})
    ]


@pytest.mark.parametrize("array, message", [
    (np.zeros((2, 4)), "shape"), (np.full((2, 3), -1), "not in"),
    (np.full((1, 3), 2**32), "not in"),
])  # fmt: skip
def test_wrong_arrays_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        wire.serialize_all((wire.FeatureSpec("a", "int64", 3),), {"a": array})


def test_framed_records_are_a_tfrecord_file(tmp_path):
    made = [b"", b"a", b"\0" * 70000, bytes(range(256))]
    framed = [wire.frame(record) for record in made]
    (tmp_path / "out").write_bytes(b"".join(framed))
    assert list(tf.io.tf_record_iterator(str(tmp_path / "out"))) == made
    with tf.io.TFRecordWriter(str(tmp_path / "expected")) as writer:
        for record in made:
            writer.write(record)
    assert (tmp_path / "expected").read_bytes() == b"".join(framed)
    assert [wire.frame_size(data, 0) for data in framed] == list(map(len, framed))
