"""TFRecord files for tests, serialized by TensorFlow, which is independent of `tfrecords.wire`."""

import tensorflow.compat.v1 as tf

from common.files import WholeFile
from tfrecords import wire


def serialize(schema, values):
    """Return a serialized tf.train.Example.

    Args:
        schema: sequence of `wire.FeatureSpec`.
        values: dict from the name of each feature to its list or 1-D array of numbers.
    """
    features = {}
    for feature in schema:
        numbers = values[feature.name]
        assert len(numbers) == feature.length, feature.name
        if feature.dtype == "float32":
            stored = tf.train.Feature(float_list=tf.train.FloatList(value=numbers))
        else:
            stored = tf.train.Feature(int64_list=tf.train.Int64List(value=numbers))
        features[feature.name] = stored
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


class RecordWriter(WholeFile):
    """Writes a TFRecord file, which appears when it is complete."""

    def write(self, record):
        """Append one record, bytes."""
        super().write(wire.frame(record))
