"""Input functions: they read every record that was written, and errors name what does not fit."""

import functools
import gzip
import os
import re

import helpers
import numpy as np
import pytest
import record_files
import tensorflow.compat.v1 as tf
from helpers import read_batches

from common.errors import UserError
from tfrecords import index, reader
from tfrecords.wire import FeatureSpec, pretraining_schema

SCHEMA = pretraining_schema(8, 3)


def make_input_fn(files, schema, *args, **named):
    return reader.make_input_fn(files, reader.examples(files, schema), *args, **named)


def values(number, schema=SCHEMA):
    """Return a record whose numbers all equal the number of the record."""
    return {feature.name: [number] * feature.length for feature in schema}


def write(path, numbers, schema=SCHEMA, compress=False):
    with record_files.RecordWriter(str(path), compress=compress) as writer:
        for number in numbers:
            writer.write(record_files.serialize(schema, values(number, schema)))
    return str(path)


def numbers_of(batches):
    return np.concatenate([batch["next_sentence_labels"][:, 0] for batch in batches]).tolist()


@pytest.mark.parametrize("compress", [False, True])
def test_evaluation_reads_everything_once_in_order(tmp_path, compress):
    files = [
        write(tmp_path / "a", range(5), compress=compress),
        write(tmp_path / "b", range(5, 7), compress=compress),
    ]
    batches = read_batches(make_input_fn(files, SCHEMA, training=False), {"batch_size": 3})
    assert numbers_of(batches) == [0, 1, 2, 3, 4, 5, 6, 0, 0]
    real = np.concatenate([batch["next_sentence_weights"][:, 0] for batch in batches])
    assert real.dtype == np.float32
    assert real.tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0]
    for feature in SCHEMA:
        kind = np.float32 if feature.dtype == "float32" else np.int32
        assert batches[0][feature.name].dtype == kind
        np.testing.assert_array_equal(
            batches[1][feature.name], np.repeat([[3], [4], [5]], feature.length, axis=1)
        )
        assert not batches[2][feature.name][1:].any()


@pytest.mark.parametrize("training", [False, True])
def test_shapes_are_static(tmp_path, training):
    input_fn = make_input_fn([write(tmp_path / "a", range(5))], SCHEMA, training)
    with tf.Graph().as_default():
        shapes = tf.data.get_output_shapes(input_fn({"batch_size": 4}))
    expected = {feature.name: [4, feature.length] for feature in SCHEMA}
    expected["next_sentence_weights"] = [4, 1]
    assert {name: shape.as_list() for name, shape in shapes.items()} == expected


def test_training_passes_are_whole_shuffled_and_repeated(tmp_path):
    files = [write(tmp_path / name, range(n, n + 20)) for n, name in ((0, "a"), (20, "b"))]
    input_fn = make_input_fn(files, SCHEMA, training=True, seed=1)
    batches = read_batches(input_fn, {"batch_size": 10}, count=8)
    numbers = numbers_of(batches)
    assert sorted(numbers[:40]) == sorted(numbers[40:]) == list(range(40))
    assert numbers[:40] != numbers[40:]
    assert all(set(batch["next_sentence_weights"][:, 0]) == {1.0} for batch in batches)
    from_first_file = sum(number < 20 for number in numbers[:10])
    assert 1 <= from_first_file <= 9


def test_training_order_follows_the_seed(tmp_path):
    path = write(tmp_path / "a", range(30))

    def order(seed):
        input_fn = make_input_fn([path], SCHEMA, training=True, seed=seed)
        return numbers_of(read_batches(input_fn, {"batch_size": 10}, count=3))

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_batch_size_argument_serves_without_params(tmp_path):
    path = write(tmp_path / "a", range(4))
    input_fn = make_input_fn([path], SCHEMA, training=False, batch_size=2)
    assert numbers_of(read_batches(input_fn, None)) == [0, 1, 2, 3]


def test_training_starts_at_the_position_of_each_call(tmp_path):
    files = [write(tmp_path / name, range(n, n + 30)) for n, name in ((0, "a"), (30, "b"))]
    step = [0]
    input_fn = make_input_fn(
        files, SCHEMA, training=True, seed=3, first_example=lambda: step[0] * 8
    )
    whole = numbers_of(read_batches(input_fn, {"batch_size": 8}, count=20))
    for step[0] in (1, 7, 8, 15):
        found = numbers_of(read_batches(input_fn, {"batch_size": 8}, count=5))
        assert found == whole[step[0] * 8 :][:40]


GLOBAL_BATCH = 8


def read_by_hosts(input_fn, hosts, replicas, on_tpu, steps=None):
    """Return the batches that the replicas of every host read: list [step][host][replica]."""
    of_hosts = []
    size = replicas // hosts
    for host in range(hosts):
        if on_tpu:
            context = None
            params = {"batch_size": GLOBAL_BATCH // replicas}
            params["context"] = helpers.TPUContext(hosts, host, size)
        else:
            context = tf.distribute.InputContext(hosts, host, replicas)
            params = {"batch_size": GLOBAL_BATCH}
        function = functools.partial(input_fn, input_context=context)
        batches = read_batches(function, params, steps and steps * size)
        of_hosts.append([batches[i : i + size] for i in range(0, len(batches), size)])
    return list(zip(*of_hosts))


@pytest.mark.parametrize("on_tpu", [False, True])
@pytest.mark.parametrize("hosts, replicas", [(1, 1), (1, 2), (1, 4), (2, 2), (2, 4)])
def test_a_step_takes_the_same_records_whatever_the_devices(tmp_path, hosts, replicas, on_tpu):
    input_fn = make_input_fn(
        [write(tmp_path / "a", range(21))], SCHEMA, training=True, first_example=lambda: 16
    )
    expected = read_batches(input_fn, {"batch_size": GLOBAL_BATCH}, 4)
    found = read_by_hosts(input_fn, hosts, replicas, on_tpu, steps=4)
    assert len(found) == 4
    for step, batch in zip(found, expected):
        parts = [part for host in step for part in host]
        assert len(parts) == replicas
        assert {len(part["input_ids"]) for part in parts} == {GLOBAL_BATCH // replicas}
        assert numbers_of(parts) == numbers_of([batch])


@pytest.mark.parametrize("on_tpu", [False, True])
@pytest.mark.parametrize("count", [1, 8, 13])
@pytest.mark.parametrize("hosts, replicas", [(1, 4), (2, 2), (2, 4)])
def test_evaluation_loses_no_record_on_any_device(tmp_path, hosts, replicas, count, on_tpu):
    """All replicas have the same number of batches; a batch without records is zeros."""
    path = write(tmp_path / "a", range(1, count + 1))
    input_fn = make_input_fn([path], SCHEMA, training=False)
    found = read_by_hosts(input_fn, hosts, replicas, on_tpu)
    parts = [part for step in found for host in step for part in host]
    assert len(parts) == -(-count // GLOBAL_BATCH) * replicas
    numbers = numbers_of(parts)
    assert numbers[:count] == list(range(1, count + 1)) and not any(numbers[count:])
    real = np.concatenate([part["next_sentence_weights"][:, 0] for part in parts])
    assert real.tolist() == [1] * count + [0] * (len(numbers) - count)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    input_fn = make_input_fn([write(tmp_path / "a", [1])], SCHEMA, training=True)
    with pytest.raises(UserError, match="a batch of 8 cannot be shared by 3 devices"):
        input_fn({"batch_size": 8}, tf.distribute.InputContext(1, 0, 3))


@pytest.mark.parametrize("training", [False, True])
def test_damaged_records_are_left_out_where_asked(tmp_path, training):
    path = write(tmp_path / "a", range(9))
    size = os.path.getsize(path) // 9
    with open(path, "r+b") as stream:
        for number in (0, 4):
            stream.seek(number * size + 12)
            stream.write(b"\xff\xff")
    with pytest.raises(UserError, match="record 0 at byte 0 is damaged.* 2 damaged records"):
        make_input_fn([path], SCHEMA, training)
    settings = reader.InputSettings(skip_damaged=True)
    input_fn = make_input_fn([path], SCHEMA, training, settings=settings)
    found = numbers_of(read_batches(input_fn, {"batch_size": 7}, count=1))
    assert sorted(found) == [1, 2, 3, 5, 6, 7, 8]


def test_gzipped_and_plain_files_mix(tmp_path):
    files = [write(tmp_path / "a", [0, 1], compress=True), write(tmp_path / "b", [2])]
    for training in (False, True):
        input_fn = make_input_fn(files, SCHEMA, training)
        assert sorted(numbers_of(read_batches(input_fn, {"batch_size": 3}, count=1))) == [0, 1, 2]


def test_large_gzipped_files_are_warned_of(tmp_path, caplog):
    files = [write(tmp_path / name, range(9), compress=name == "b") for name in "ab"]
    for size in (9, 8):
        settings = reader.InputSettings(shuffle_buffer=size)
        assert not caplog.records
        make_input_fn(files, SCHEMA, True, settings=settings)
    assert "b is gzipped, so that all of its 9 records are in memory" in caplog.text


def test_the_index_is_kept_and_another_order_is_warned_of(tmp_path, caplog):
    files = [write(tmp_path / name, range(9)) for name in "ab"]
    folder = str(tmp_path / "out")

    def make(files, step):
        return make_input_fn(files, SCHEMA, True, first_example=lambda: step, folder=folder)

    make(files, 0)
    assert os.listdir(folder) == [index.CACHE_NAME]
    make(files, 5)
    assert not caplog.records
    make(files[:1], 5)
    assert "(b has 0 records instead of 9)" in caplog.text


def test_shorter_records_are_padded_with_a_warning(tmp_path, caplog):
    path = write(tmp_path / "a", [7])
    wanted = pretraining_schema(10, 5)
    with caplog.at_level("WARNING"):
        input_fn = make_input_fn([path], wanted, training=False)
    text = caplog.text
    assert "input_ids, input_mask, segment_ids stored with length 8, padded to 10" in text
    assert "masked_lm_weights stored with length 3, padded to 5" in text
    batch = read_batches(input_fn, {"batch_size": 1})[0]
    assert batch["input_ids"].tolist() == [[7] * 8 + [0] * 2]
    assert batch["masked_lm_weights"].tolist() == [[7.0] * 3 + [0.0] * 2]


def test_check_returns_the_stored_schema_without_a_warning_if_it_fits(tmp_path, caplog):
    path = write(tmp_path / "a", [7])
    with caplog.at_level("WARNING"):
        assert reader.check_records([path], SCHEMA) == SCHEMA
    assert not caplog.records
    assert reader.check_records([path], pretraining_schema(9, 3)) == SCHEMA


def damaged(tmp_path):
    path = write(tmp_path / "bad", [1])
    with open(path, "r+b") as stream:
        stream.truncate(40)
    return path


def not_gzip(tmp_path):
    (tmp_path / "bad").write_bytes(index.GZIP_MAGIC + b"rest" * 20)
    return str(tmp_path / "bad")


def text(tmp_path):
    (tmp_path / "bad").write_text("one sentence and another\n" * 9)
    return str(tmp_path / "bad")


def gzipped_text(tmp_path):
    with gzip.open(str(tmp_path / "bad"), "wb") as stream:
        stream.write(b"one sentence and another\n" * 9)
    return str(tmp_path / "bad")


def empty(tmp_path):
    (tmp_path / "bad").write_bytes(b"")
    return str(tmp_path / "bad")


def not_an_example(tmp_path):
    with record_files.RecordWriter(str(tmp_path / "bad")) as writer:
        writer.write(b"\xff\xff\xff")
    return str(tmp_path / "bad")


def missing(tmp_path):
    return str(tmp_path / "bad")


@pytest.mark.parametrize(
    "make, message",
    [
        (damaged, "is not a TFRecord"),
        (not_gzip, "is not a TFRecord"),
        (text, "is not a TFRecord"),
        (gzipped_text, "is not a TFRecord"),
        (not_an_example, "is not a TFRecord"),
        (empty, "holds no record"),
        (missing, "does not exist"),
    ],
)
def test_unreadable_files_are_named(tmp_path, make, message):
    path = make(tmp_path)
    good = write(tmp_path / "good", [1])
    with pytest.raises(UserError, match=message) as raised:
        make_input_fn([good, path], SCHEMA, training=True)
    assert path in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "stored, wanted, message",
    [
        ((16, 3), (8, 3), "input_ids has length 16 but the flags allow 8"),
        ((8, 5), (8, 3), "masked_lm_positions has length 5 but the flags allow 3"),
    ],
)
def test_longer_records_are_refused_with_both_numbers(tmp_path, stored, wanted, message):
    path = write(tmp_path / "a", [1], pretraining_schema(*stored))
    with pytest.raises(UserError, match=message):
        reader.check_records([path], pretraining_schema(*wanted))


def test_a_missing_feature_is_named(tmp_path):
    path = write(tmp_path / "a", [1], SCHEMA[:3])
    with pytest.raises(UserError, match="no feature masked_lm_positions: it holds input_ids"):
        reader.check_records([path], SCHEMA)


def test_a_feature_of_the_wrong_kind_is_named(tmp_path):
    path = write(tmp_path / "a", [1], [FeatureSpec("input_ids", "float32", 8)])
    with pytest.raises(UserError, match="input_ids is a float_list instead of a int64_list"):
        reader.check_records([path], SCHEMA)


def test_files_of_different_lengths_are_refused(tmp_path):
    shorter = pretraining_schema(8, 2)
    files = [write(tmp_path / "a", [1]), write(tmp_path / "b", [1], shorter)]
    with pytest.raises(UserError, match="a holds 3 masked_lm_positions .* but .*b holds 2"):
        reader.check_records(files, SCHEMA)


def test_no_thread_tunes_the_pipeline_since_the_end_of_a_session_would_wait_for_it():
    options = reader.prefetched(tf.data.Dataset.range(3)).options()
    if hasattr(options, "autotune"):
        assert not options.autotune.enabled
    else:  # TensorFlow 1
        assert not options.experimental_optimization.autotune


@pytest.mark.parametrize(
    "num_steps, words",
    [
        (None, ""),
        (100, "INFO .*100 steps of 4 rows read each of the 250 records 1.6 times"),
        (125000, "WARNING .*MANY PASSES: 125,000 steps .* 2,000 times: give more text, or"),
    ],
)
def test_the_number_of_passes_is_told(num_steps, words, caplog):
    caplog.set_level("INFO")
    reader.tell_passes(250, num_steps, batch_size=4)
    assert re.search(words, caplog.text) and bool(words) == bool(caplog.text)
