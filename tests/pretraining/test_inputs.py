"""The records of run_pretraining.py: compact ones, and what is wrong with them."""

import argparse
import os

import compact_rows
import numpy as np
import pytest
import record_files
import tensorflow.compat.v1 as tf

import run_pretraining
from checkpointing import run_folder
from common import cli
from common.errors import UserError
from pretraining import inputs
from tfrecords import compact, manifest
from tfrecords.wire import pretraining_schema

LIMITS = compact.Limits(max_seq_length=64, max_chunks_per_row=4, vocab_size=60)


def write(path, number=20, limits=LIMITS, **flags):
    rng = np.random.RandomState(0)
    rows = [compact_rows.random_row(rng, limits) for _ in range(number)]
    compact_rows.write(str(path), rows, limits, **flags)
    return rows


def read(path, training=True, **flags):
    """Return the `inputs.Records` and the input function of flags."""
    values = dict({"input_file": path, "max_seq_length": 64, "train_batch_size": 8}, **flags)
    values.update(output_dir="unused", bert_config_file="unused", do_train=True, do_eval=True)
    argv = ["run"] + ["--{}={}".format(name, value) for name, value in values.items()]
    args = cli.parse(run_pretraining.define_flags, argv)
    records = inputs.read_records(args)
    args.output_dir = os.path.dirname(str(path))
    split = records.train if training else records.evaluation
    return records, inputs.make_input_fn(args, split, training)


def take(input_fn, number, batch_size=8):
    with tf.Graph().as_default(), tf.Session() as session:
        batches = tf.data.make_one_shot_iterator(input_fn({"batch_size": batch_size})).get_next()
        return [session.run(batches) for _ in range(number)]


def test_the_manifest_says_how_to_mask(tmp_path):
    rows = write(tmp_path / "a")
    records, _ = read(tmp_path / "a")
    assert records.max_predictions_per_seq == 10
    assert records.max_chunks_per_row == 4
    assert records.chunks_per_row == np.mean([len(row.lengths) for row in rows])
    config = records.train.reads.config
    assert config == compact_rows.make_config(short_seq_prob=0.0)
    vocabulary, expected = records.train.reads.vocabulary, compact_rows.make_vocabulary(60)
    assert (vocabulary.cls_id, vocabulary.mask_id) == (expected.cls_id, expected.mask_id)
    np.testing.assert_array_equal(vocabulary.replacements, expected.replacements)


def test_flags_change_the_masks(tmp_path):
    write(tmp_path / "a")
    flags = {"masked_lm_prob": 0.3, "ngram": 1, "max_predictions_per_seq": 6, "replace_spans": True}
    records, input_fn = read(tmp_path / "a", **flags)
    config = records.train.reads.config
    assert (config.masked_lm_prob, config.gram_probabilities, config.replace_spans) == (
        0.3,
        (1,),
        True,
    )
    assert take(input_fn, 1)[0]["masked_lm_ids"].shape == (8, 6)


def test_training_masks_anew_and_evaluation_does_not(tmp_path):
    write(tmp_path / "a", 16)
    _, train = read(tmp_path / "a", shuffle_buffer=1)
    first, second = (
        [batch["masked_lm_positions"].tolist() for batch in take(train, 4)][i : i + 2]
        for i in (0, 2)
    )
    assert sorted(first[0] + first[1]) != sorted(second[0] + second[1])
    evaluations = [take(read(tmp_path / "a", False, random_seed=seed)[1], 2) for seed in (1, 2)]
    for one, other in zip(*evaluations):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


@pytest.mark.parametrize("size", [96, 4 * 64])
def test_large_batches_are_masked_in_parts(tmp_path, size):
    write(tmp_path / "a", 300)
    _, input_fn = read(tmp_path / "a")
    [large] = take(input_fn, 1, size)
    small = take(input_fn, size // 8, 8)
    for name, values in large.items():
        np.testing.assert_array_equal(values, np.concatenate([batch[name] for batch in small]))


def edit_manifest(path, change):
    """Change the manifest beside a file; `change` is a function that changes a dict."""
    content = manifest.read_manifest(str(path))
    change(content)
    manifest.write_manifest(str(path), content)


def refused(path, **flags):
    with pytest.raises(UserError) as error:
        read(path, **flags)
    return str(error.value)


def test_a_lost_manifest(tmp_path):
    write(tmp_path / "a")
    os.remove(str(tmp_path / "a.manifest.json"))
    text = refused(tmp_path / "a")
    assert "holds compact records, and no .manifest.json beside it names it" in text
    write(tmp_path / "a")
    assert read(tmp_path / "a")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["flags"].pop("ngram"),
        lambda content: content.pop("counts"),
        lambda content: content["flags"].update(masked_lm_prob=7),
        lambda content: content["flags"].update(masked_lm_prob="x"),
        lambda content: content["flags"].update(ngram=0),
        lambda content: content["flags"].update(favor_ngram="?"),
        lambda content: content["compact"].update(replacements=[]),
        lambda content: content["counts"].update(rows=0),
    ],
)
def test_an_edited_manifest(tmp_path, change):
    write(tmp_path / "a")
    edit_manifest(tmp_path / "a", change)
    assert "is not as create_pretraining_data.py wrote it" in refused(tmp_path / "a")


def test_lengths_that_do_not_fit(tmp_path, caplog):
    write(tmp_path / "a")
    write(tmp_path / "b")
    edit_manifest(tmp_path / "a", lambda content: content["outputs"].append("b"))
    os.remove(str(tmp_path / "b.manifest.json"))
    text = refused(tmp_path / "b", max_seq_length=32)
    assert text.endswith(
        "max_seq_length is 32, the records were made with 64: set --max_seq_length to 64"
    )
    read(tmp_path / "b")
    assert not any("max_seq_length" in message for message in caplog.messages)
    read(tmp_path / "b", max_seq_length=80, masked_lm_prob=0.5)
    assert "at most 64 positions; they are padded to --max_seq_length=80" in caplog.text
    assert "asks for 32 pieces of a row, --max_predictions_per_seq allows 10" in caplog.text
    caplog.clear()
    read(tmp_path / "b", masked_lm_prob=0.5, max_predictions_per_seq=32)
    assert "asks for" not in caplog.text


def test_few_predictions_are_shared_by_all_chunks(tmp_path):
    write(tmp_path / "a", 200)
    _, input_fn = read(tmp_path / "a", masked_lm_prob=0.5, shuffle_buffer=1)
    [batch] = take(input_fn, 1, 200)
    rows = np.arange(200)[:, np.newaxis]
    chunk = batch["chunk_ids"][rows, batch["masked_lm_positions"]][batch["masked_lm_weights"] > 0]
    size = np.bincount(batch["chunk_ids"].ravel(), minlength=5)[1:]
    share = np.bincount(chunk, minlength=5)[1:] / size
    assert share.min() > 0.5 * share.max()


def test_the_manifest_of_a_neighbour_serves_its_shards(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    edit_manifest(tmp_path / "a", lambda content: content["outputs"].append("elsewhere/b"))
    os.remove(str(tmp_path / "b.manifest.json"))
    assert read(tmp_path / "b")[0].max_chunks_per_row == 4


def test_two_defaults_need_a_flag(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", masked_lm_prob=0.3)
    both = "{0}/a,{0}/b".format(tmp_path)
    text = refused(both)
    assert "was made with masked_lm_prob=0.15" in text
    assert text.endswith("with 0.3: give --masked_lm_prob")
    assert read(both, masked_lm_prob=0.2)[0].train.reads.config.masked_lm_prob == 0.2


def test_both_formats_at_once(tmp_path):
    write(tmp_path / "a")
    schema = pretraining_schema(64, 10)
    with record_files.RecordWriter(str(tmp_path / "b")) as writer:
        zeros = {feature.name: np.zeros(feature.length, int) for feature in schema}
        writer.write(record_files.serialize(schema, zeros))
    text = refused("{0}/a,{0}/b".format(tmp_path))
    assert "a holds compact records and" in text and "b published ones" in text
    records, _ = read(tmp_path / "a", eval_input_file=tmp_path / "b")
    assert (records.max_predictions_per_seq, records.max_chunks_per_row) == (51, 4)
    text = refused(tmp_path / "b", masked_lm_prob=0.2)
    assert text.startswith("--masked_lm_prob: the records are masked already")


@pytest.mark.parametrize(
    "place, number, fault",
    [
        (0, 0xAC02, "record 3 at byte .* is damaged: it is a compact record of version 2"),
        (1, 3, "the lengths of its chunks do not fit"),
        (-1, 0x8000 + 60, "it holds piece 60, and the vocabulary has 60"),
        (None, 1, "it ends inside a number"),
        (None, 2, "the lengths of its chunks do not fit"),
    ],
)
def test_a_bad_record_is_found_before_training(tmp_path, place, number, fault):
    rows = write(tmp_path / "a")
    records = [compact_rows.serialize(row, LIMITS) for row in rows]
    if place is None:
        records[3] = records[3][:-number]
    else:
        numbers = np.frombuffer(records[3], "<u2").copy()
        numbers[place] = number
        records[3] = numbers.tobytes()
    with record_files.RecordWriter(str(tmp_path / "a")) as writer:
        for record in records:
            writer.write(record)
    with pytest.raises(UserError, match=fault):
        read(tmp_path / "a")
    _, input_fn = read(tmp_path / "a", skip_damaged=True)
    assert take(input_fn, 1)


def test_a_resumed_run_is_told_of_other_masks(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(run_folder, "latest_step", lambda folder: 1)
    write(tmp_path / "a")
    for share in (0.1, 0.1, 0.2):
        read(tmp_path / "a", masked_lm_prob=share)
        assert ("masks 0.2 of the pieces and at most 10" in caplog.text) == (share == 0.2)


def test_evaluation_on_the_training_text_is_told(tmp_path, caplog):
    """Records of one text with other masks are reported; held-out compact shards are not."""
    args = argparse.Namespace(
        input_file=str(tmp_path / "a"), eval_input_file=str(tmp_path / "b"), do_eval=True
    )
    args.do_train, args.general_eval_input_file = True, None
    of_text = {"inputs": [{"path": "news.txt", "sha256": "1"}], "outputs": ["a", "b"]}
    for entry, other, told in (
        (None, of_text, True),
        ({"version": 1}, of_text, False),
        ({"version": 1}, dict(of_text, outputs=["b"]), True),
        (None, {"inputs": [{"path": "other.txt", "sha256": "2"}], "outputs": ["b"]}, False),
    ):
        for name, content in (("a", of_text), ("b", other)):
            (tmp_path / name).write_bytes(b"")
            manifest.write_manifest(str(tmp_path / name), dict(content, compact=entry))
        caplog.clear()
        inputs.find_records(args)
        assert ("EVALUATION ON THE TRAINING TEXT" in caplog.text) == told


def test_records_of_one_text_that_two_commands_made_are_told(tmp_path, caplog):
    args = argparse.Namespace(input_file=str(tmp_path / "?"), eval_input_file=None, do_eval=False)
    args.do_train, args.general_eval_input_file = True, None
    for sha256, told in (("2", False), ("1", True)):
        for name, text in (("a", "1"), ("b", sha256)):
            (tmp_path / name).write_bytes(b"")
            content = {"inputs": [{"path": "news.txt", "sha256": text}], "outputs": [name]}
            manifest.write_manifest(str(tmp_path / name), content)
        inputs.find_records(args)
        assert ("TEXT TWICE" in caplog.text) == told
