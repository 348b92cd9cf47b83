"""Tests for TPUs that need no TPU: flags, the graph of a core, what its host writes."""

import glob

import helpers
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import summary_ops_v2

import modeling
import optimization
import run_pretraining
from common import cli
from common.errors import UserError
from pretraining.model import loss_divisors, make_forward
from tfrecords.wire import pretraining_schema
from training import devices, flags, model_fn
from training.placement import Placement

SEQUENCE, PREDICTIONS, CORE_BATCH = 16, 4, 2


def settings_of(folder, **changes):
    values = {"output_dir": folder, "bert_config_file": folder / "config.json", "use_tpu": True}
    words = helpers.arguments(dict(values, **changes))
    args = cli.parse(run_pretraining.define_flags, ["run_pretraining.py"] + words)
    return flags.run_settings(args)


def test_a_tpu_of_this_machine_reads_and_writes_here(tmp_path):
    assert settings_of(tmp_path, tpu_name="local").output_dir == str(tmp_path)


@pytest.mark.parametrize(
    "paths, named",
    [("gs://b/a.tfrecord", None), (None, None), ("gs://b/a, here/b*", "--input_file=here/b")],
)
def test_a_tpu_elsewhere_reads_no_local_files(tmp_path, paths, named):
    settings = settings_of(tmp_path, tpu_name="local")._replace(tpu_name="grpc://10.0.0.1:8470")
    if named is None:
        flags.refuse_local_paths(settings, "input_file", paths)
    else:
        with pytest.raises(UserError, match=named):
            flags.refuse_local_paths(settings, "input_file", paths)


def test_the_graph_of_a_core_sends_its_scalars_to_the_host(tmp_path):
    """The graph is only built, since only a TPU can run it: shapes are static, scalars per core."""
    helpers.write_config(tmp_path, 60, SEQUENCE)
    settings = settings_of(tmp_path, tpu_name="local", random_seed=1)
    config = modeling.AlbertConfig.from_json_file(str(tmp_path / "config.json"))
    optimizer = optimization.OptimizerConfig("lamb", 0.01, num_train_steps=10)
    step = model_fn.TrainingStep(
        lambda *args, **options: optimization.create_train_op(*args, config=optimizer, **options),
        loss_divisors,
        Placement(num_replicas=8, replica_batch=CORE_BATCH, micro_batch=1),
        num_steps=10,
    )
    execution = modeling.Execution(**devices.execution_fields(settings))
    forward = make_forward(config, execution)
    build = model_fn.make_model_fn(forward, settings, step)
    with tf.Graph().as_default():
        features = {
            feature.name: tf.zeros([CORE_BATCH, feature.length], tf.as_dtype(feature.dtype))
            for feature in pretraining_schema(SEQUENCE, PREDICTIONS)
        }
        features = {
            name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
            for name, value in features.items()
        }
        features["next_sentence_weights"] = tf.ones([CORE_BATCH, 1])
        spec = build(features, None, tf.estimator.ModeKeys.TRAIN, {})
    _, tensors = spec.host_call
    assert {"step", "loss", "learning_rate", "masked_lm_loss", "grad_norm"} <= set(tensors)
    assert {(x.dtype, tuple(x.shape.as_list())) for x in tensors.values()} == {(tf.float32, (1,))}


def test_the_host_writes_every_tenth_step(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.float32, [8])
        write = model_fn.write_scalars(str(tmp_path), step, loss=2 * step)
        writers = summary_ops_v2.summary_writer_initializer_op()  # as TPUEstimator does
        session.run(writers)
        for number in range(1, 25):
            session.run(write, {step: [number] * 8})
        session.run([summary_ops_v2.legacy_raw_flush(writer=op.inputs[0]) for op in writers])
    (path,) = glob.glob(str(tmp_path / "events*"))
    found = [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for event in tf.train.summary_iterator(path)
        for value in event.summary.value
    ]
    assert found == [(10, "loss", 20.0), (20, "loss", 40.0)]
