"""Simulated TPUs of several sizes, which the real TPUEstimator accepts."""

import helpers
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.tpu import tpu_system_metadata

import run_pretraining
from common import cli
from common.errors import UserError
from training import preflight, tpu
from training.flags import run_settings
from training.trainer import make_trainer

# Name of a TPU -> (hosts, cores of a host, generation, batch that evaluates 64 examples).
TOPOLOGIES = {
    "v3-8": (1, 8, "v3", 64),
    "v3-32": (4, 8, "v3", 64),
    "v3-256": (32, 8, "v3", 256),
    "v4-8": (1, 4, "v4", 64),
}


def settings_of(folder, **changes):
    values = {
        "output_dir": folder,
        "bert_config_file": folder / "config.json",
        "use_tpu": True,
        "tpu_name": "local",
    }
    words = helpers.arguments(dict(values, **changes))
    return run_settings(cli.parse(run_pretraining.define_flags, ["run_pretraining.py"] + words))


def core_names(hosts, cores):
    name = "/job:tpu_worker/replica:0/task:{}/device:TPU:{}"
    return [name.format(host, core) for host in range(hosts) for core in range(cores)]


@pytest.fixture(params=sorted(TOPOLOGIES))
def topology(request, monkeypatch):
    """A TPU of TOPOLOGIES, which both our code and TPUEstimator find."""
    hosts, cores, _, _ = TOPOLOGIES[request.param]
    names = core_names(hosts, cores)
    specs = [tf.DeviceSpec.from_string(name) for name in names]
    monkeypatch.setattr(tpu, "list_cores", lambda settings: specs)
    kinds = tpu_system_metadata.TPUSystemMetadata
    found = kinds(hosts * cores, hosts, cores, topology=None, devices=())
    monkeypatch.setattr(tpu_system_metadata, "_query_tpu_system_metadata", lambda *_, **__: found)
    return TOPOLOGIES[request.param]


def test_estimator_takes_the_batches_of_every_topology(tmp_path, topology):
    hosts, cores, generation, eval_batch = topology
    given = settings_of(tmp_path, train_batch_size=4096)
    settings, line = preflight.check_tpu(given)
    assert settings.num_tpu_cores == hosts * cores and settings.tpu_generation == generation
    assert settings.eval_batch_size == eval_batch and "assumed" in line
    estimator = make_trainer(lambda features, labels, mode, params: None, settings)._together
    for mode in (tf.estimator.ModeKeys.TRAIN, tf.estimator.ModeKeys.EVAL):
        with estimator._ctx.with_mode(mode) as context:
            assert context.num_replicas == hosts * cores and context.num_hosts == hosts
            batch = 4096 if mode == tf.estimator.ModeKeys.TRAIN else eval_batch
            assert context.batch_size_for_input_fn == batch // (hosts * cores)


def test_flags_override_what_the_tpu_tells(tmp_path, topology):
    given = settings_of(tmp_path, num_tpu_cores=16, tpu_generation="v2")
    settings, line = preflight.check_tpu(given)
    assert settings.num_tpu_cores == 16 and "2 hosts, generation v2" in line
    assert "assumed" not in line


def test_several_hosts_do_not_predict(tmp_path, topology):
    hosts = topology[0]
    if hosts == 1:
        preflight.check_tpu(settings_of(tmp_path), predicts=True)
    else:
        with pytest.raises(UserError, match="{} hosts.*one host".format(hosts)):
            preflight.check_tpu(settings_of(tmp_path), predicts=True)


def test_a_tensorflow_without_tpu_kernels_is_named(tmp_path):
    with pytest.raises(UserError, match="no kernels for TPUs.*make_venv.sh --tpu"):
        preflight.check_tpu(settings_of(tmp_path))


def test_a_tpu_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tpu, "check_kernels", lambda: None)  # there is only a CPU
    with pytest.raises(UserError, match="no TPU core answers at local"):
        preflight.check_tpu(settings_of(tmp_path))
    monkeypatch.setattr(tpu, "TIMEOUT_MS", 100)
    with pytest.raises(UserError, match="no TPU core answers at grpc://localhost:1 "):
        preflight.check_tpu(settings_of(tmp_path)._replace(tpu_name="grpc://localhost:1"))


def test_a_name_needs_the_client_of_google_cloud(tmp_path):
    with pytest.raises(UserError, match="--tpu_name=mine cannot be looked up.*pip install"):
        preflight.check_tpu(settings_of(tmp_path)._replace(tpu_name="mine"))
