"""Records: what is written is what is read, and what does not fit is said in one line."""

import functools
import gzip
import os
import resource
import subprocess
import sys

import helpers
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from common.errors import UserError
from common.files import find_files
from tfrecords import index, reader
from tfrecords.manifest import read_manifest, write_manifest
from tfrecords.wire import Feature, pretraining_schema

SCHEMA = pretraining_schema(8, 3)


def values(number, schema=SCHEMA):
    """A record whose every number tells which record it is of."""
    return {feature.name: [number] * feature.length for feature in schema}


def write(path, numbers, schema=SCHEMA, compress=False):
    with reader.RecordWriter(str(path), compress=compress) as writer:
        for number in numbers:
            writer.write(reader.serialize(schema, values(number, schema)))
    return str(path)


def read(input_fn, params, batches=None):
    """Batches of an input function as a list of dicts of arrays."""
    with tf.Graph().as_default():
        dataset = input_fn(params)
        features = tf.data.make_one_shot_iterator(dataset).get_next()
        read_batches = []
        with tf.Session() as session:
            while batches is None or len(read_batches) < batches:
                try:
                    read_batches.append(session.run(features))
                except tf.errors.OutOfRangeError:
                    break
    return read_batches


def numbers_of(batches):
    return np.concatenate([batch["next_sentence_labels"][:, 0] for batch in batches]).tolist()


def test_serialize_is_a_tf_example():
    stored = values(1)
    stored["input_ids"] = np.array([101, 5, 21127, 0, 0, 0, 0, 2**40])
    stored["masked_lm_weights"] = [1.0, 0.5, 0.0]
    features = tf.train.Example.FromString(reader.serialize(SCHEMA, stored)).features.feature
    assert set(features) == {feature.name for feature in SCHEMA}
    assert features["input_ids"].int64_list.value[:] == [101, 5, 21127, 0, 0, 0, 0, 2**40]
    assert features["masked_lm_weights"].float_list.value[:] == [1.0, 0.5, 0.0]


def test_serialize_does_not_depend_on_the_order_of_names():
    backwards = dict(reversed(list(values(3).items())))
    assert reader.serialize(SCHEMA, backwards) == reader.serialize(SCHEMA, values(3))


def test_serialize_refuses_a_wrong_length():
    wrong = values(1)
    wrong["segment_ids"] = [1] * 7
    with pytest.raises(ValueError, match="segment_ids has 7 numbers instead of 8"):
        reader.serialize(SCHEMA, wrong)


@pytest.mark.parametrize("compress", [False, True])
def test_evaluation_reads_everything_once_in_order(tmp_path, compress):
    files = [
        write(tmp_path / "a", range(5), compress=compress),
        write(tmp_path / "b", range(5, 7), compress=compress),
    ]
    batches = read(reader.make_input_fn(files, SCHEMA, training=False), {"batch_size": 3})
    assert numbers_of(batches) == [0, 1, 2, 3, 4, 5, 6, 0, 0]
    real = np.concatenate([batch["is_real_example"] for batch in batches])
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
    input_fn = reader.make_input_fn([write(tmp_path / "a", range(5))], SCHEMA, training)
    with tf.Graph().as_default():
        shapes = tf.data.get_output_shapes(input_fn({"batch_size": 4}))
    expected = {feature.name: [4, feature.length] for feature in SCHEMA}
    expected["is_real_example"] = [4]
    assert {name: shape.as_list() for name, shape in shapes.items()} == expected


def test_training_passes_are_whole_shuffled_and_repeated(tmp_path):
    files = [write(tmp_path / name, range(n, n + 20)) for n, name in ((0, "a"), (20, "b"))]
    input_fn = reader.make_input_fn(files, SCHEMA, training=True, seed=1)
    batches = read(input_fn, {"batch_size": 10}, batches=8)
    numbers = numbers_of(batches)
    assert sorted(numbers[:40]) == sorted(numbers[40:]) == list(range(40))
    assert numbers[:40] != numbers[40:]
    assert all(set(batch["is_real_example"]) == {1.0} for batch in batches)
    from_first_file = sum(number < 20 for number in numbers[:10])
    assert 1 <= from_first_file <= 9


def test_training_order_follows_the_seed(tmp_path):
    path = write(tmp_path / "a", range(30))

    def order(seed):
        input_fn = reader.make_input_fn([path], SCHEMA, training=True, seed=seed)
        return numbers_of(read(input_fn, {"batch_size": 10}, batches=3))

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_batch_size_argument_serves_without_params(tmp_path):
    path = write(tmp_path / "a", range(4))
    input_fn = reader.make_input_fn([path], SCHEMA, training=False, batch_size=2)
    assert numbers_of(read(input_fn, None)) == [0, 1, 2, 3]


def test_training_starts_where_it_is_told_to_each_time(tmp_path):
    files = [write(tmp_path / name, range(n, n + 30)) for n, name in ((0, "a"), (30, "b"))]
    step = [0]
    input_fn = reader.make_input_fn(
        files, SCHEMA, training=True, seed=3, first_example=lambda: step[0] * 8
    )
    whole = numbers_of(read(input_fn, {"batch_size": 8}, batches=20))
    for step[0] in (1, 7, 8, 15):
        found = numbers_of(read(input_fn, {"batch_size": 8}, batches=5))
        assert found == whole[step[0] * 8 :][:40]


GLOBAL_BATCH = 8


def read_by_hosts(input_fn, hosts, replicas, on_tpu, steps=None):
    """Batches of every host as its replicas take them: list [step][host][replica]."""
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
        batches = read(function, params, steps and steps * size)
        of_hosts.append([batches[i : i + size] for i in range(0, len(batches), size)])
    return list(zip(*of_hosts))


@pytest.mark.parametrize("on_tpu", [False, True])
@pytest.mark.parametrize("hosts, replicas", [(1, 1), (1, 2), (1, 4), (2, 2), (2, 4)])
def test_a_step_takes_the_same_records_whatever_the_devices(tmp_path, hosts, replicas, on_tpu):
    input_fn = reader.make_input_fn(
        [write(tmp_path / "a", range(21))], SCHEMA, training=True, first_example=lambda: 16
    )
    expected = read(input_fn, {"batch_size": GLOBAL_BATCH}, 4)
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
    """The replicas have equally many batches; those without records are zeros."""
    path = write(tmp_path / "a", range(1, count + 1))
    input_fn = reader.make_input_fn([path], SCHEMA, training=False)
    found = read_by_hosts(input_fn, hosts, replicas, on_tpu)
    parts = [part for step in found for host in step for part in host]
    assert len(parts) == -(-count // GLOBAL_BATCH) * replicas
    numbers = numbers_of(parts)
    assert numbers[:count] == list(range(1, count + 1)) and not any(numbers[count:])
    real = np.concatenate([part["is_real_example"] for part in parts])
    assert real.tolist() == [1] * count + [0] * (len(numbers) - count)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    input_fn = reader.make_input_fn([write(tmp_path / "a", [1])], SCHEMA, training=True)
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
        reader.make_input_fn([path], SCHEMA, training)
    settings = reader.InputSettings(skip_damaged=True)
    input_fn = reader.make_input_fn([path], SCHEMA, training, settings=settings)
    found = numbers_of(read(input_fn, {"batch_size": 7}, batches=1))
    assert sorted(found) == [1, 2, 3, 5, 6, 7, 8]


def test_gzipped_and_plain_files_mix(tmp_path):
    files = [write(tmp_path / "a", [0, 1], compress=True), write(tmp_path / "b", [2])]
    for training in (False, True):
        input_fn = reader.make_input_fn(files, SCHEMA, training)
        assert sorted(numbers_of(read(input_fn, {"batch_size": 3}, batches=1))) == [0, 1, 2]


def test_large_gzipped_files_are_told(tmp_path, caplog):
    files = [write(tmp_path / name, range(9), compress=name == "b") for name in "ab"]
    for size in (9, 8):
        settings = reader.InputSettings(shuffle_buffer=size)
        assert not caplog.records
        reader.make_input_fn(files, SCHEMA, True, settings=settings)
    assert "b is gzipped, so that all of its 9 records are in memory" in caplog.text


def test_the_index_is_kept_and_another_order_is_told(tmp_path, caplog):
    files = [write(tmp_path / name, range(9)) for name in "ab"]
    folder = str(tmp_path / "out")

    def make(files, step):
        return reader.make_input_fn(files, SCHEMA, True, first_example=lambda: step, folder=folder)

    make(files, 0)
    assert os.listdir(folder) == [index.CACHE_NAME]
    make(files, 5)
    assert not caplog.records
    make(files[:1], 5)
    assert "(without b)" in caplog.text


def test_shorter_records_are_padded_with_a_warning(tmp_path, caplog):
    path = write(tmp_path / "a", [7])
    wanted = pretraining_schema(10, 5)
    with caplog.at_level("WARNING"):
        input_fn = reader.make_input_fn([path], wanted, training=False)
    text = caplog.text
    assert "input_ids, input_mask, segment_ids stored with length 8, padded to 10" in text
    assert "masked_lm_weights stored with length 3, padded to 5" in text
    batch = read(input_fn, {"batch_size": 1})[0]
    assert batch["input_ids"].tolist() == [[7] * 8 + [0] * 2]
    assert batch["masked_lm_weights"].tolist() == [[7.0] * 3 + [0.0] * 2]


def test_check_returns_the_stored_schema_in_silence_when_it_fits(tmp_path, caplog):
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
    with reader.RecordWriter(str(tmp_path / "bad")) as writer:
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
        reader.make_input_fn([good, path], SCHEMA, training=True)
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
    path = write(tmp_path / "a", [1], [Feature("input_ids", "float32", 8)])
    with pytest.raises(UserError, match="input_ids is a float_list instead of a int64_list"):
        reader.check_records([path], SCHEMA)


def test_files_of_different_lengths_are_refused(tmp_path):
    shorter = pretraining_schema(8, 2)
    files = [write(tmp_path / "a", [1]), write(tmp_path / "b", [1], shorter)]
    with pytest.raises(UserError, match="a holds 3 masked_lm_positions .* but .*b holds 2"):
        reader.check_records(files, SCHEMA)


def test_a_writer_that_fails_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "sub" / "a"
    with pytest.raises(RuntimeError), reader.RecordWriter(str(path)) as writer:
        writer.write(b"half")
        raise RuntimeError("stop")
    assert os.listdir(str(path.parent)) == []
    write(path, [1])
    before = path.read_bytes()
    with pytest.raises(RuntimeError), reader.RecordWriter(str(path)):
        raise RuntimeError("stop")
    assert path.read_bytes() == before
    assert os.listdir(str(path.parent)) == ["a"]


def test_the_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "a"
    with reader.RecordWriter(str(path)) as writer:
        writer.write(b"one")
        assert not path.exists()
    assert path.exists()


def test_a_path_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "file" / "a", [1])
    with pytest.raises(UserError, match="cannot write"):
        write_manifest(str(tmp_path / "file" / "a"), {})


def test_a_full_disk_is_a_user_error(tmp_path):
    script = (
        "import resource, signal, sys\n"
        "from tfrecords import reader\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "try:\n"
        "    with reader.RecordWriter(sys.argv[1]) as writer:\n"
        "        for _ in range(1000):\n"
        "            writer.write(b'x' * 1000)\n"
        "except reader.UserError as error:\n"
        "    sys.exit(str(error))\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100000
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")],
        stderr=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot write {}".format(tmp_path / "a") in done.stderr.splitlines()[-1]
    assert os.listdir(str(tmp_path)) == []


def test_find_files_takes_commas_globs_and_sorts(tmp_path):
    for name in ("b.rec", "a.rec", "c.txt", "[x]", "a.rec.manifest.json", "d.rec.tmp"):
        (tmp_path / name).write_text("")
    found = find_files("{0}/c.txt, {0}/*rec*,{0}/a.rec,{0}/[x]".format(tmp_path))
    assert [os.path.basename(path) for path in found] == ["[x]", "a.rec", "b.rec", "c.txt"]


@pytest.mark.parametrize("part", ["none*", "none", "no/folder/*"])
def test_find_files_names_what_matches_nothing(tmp_path, part):
    (tmp_path / "a").write_text("")
    with pytest.raises(UserError) as raised:
        find_files("{0}/a,{0}/{1}".format(tmp_path, part))
    assert "{}/{}".format(tmp_path, part) in str(raised.value)


@pytest.mark.parametrize("pattern, message", [("", "no input file"), (",", "no input file")])
def test_find_files_wants_a_name(pattern, message):
    with pytest.raises(UserError, match=message):
        find_files(pattern)


def test_find_files_refuses_a_folder(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        find_files(str(tmp_path))
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="b is a folder"):
        find_files("{}/*".format(tmp_path))


def test_manifest_round_trip(tmp_path):
    path = str(tmp_path / "sub" / "a.tfrecord")
    assert read_manifest(path) is None
    write_manifest(path, {"flags": {"max_seq_length": 128}, "字": "汉"})
    assert read_manifest(path) == {"flags": {"max_seq_length": 128}, "字": "汉"}
    assert os.listdir(str(tmp_path / "sub")) == ["a.tfrecord.manifest.json"]


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe{}"])
def test_a_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "a.manifest.json").write_bytes(content)
    with pytest.raises(UserError, match="a.manifest.json"):
        read_manifest(str(tmp_path / "a"))
