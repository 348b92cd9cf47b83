"""The TPU of a run: how it is reached, its cores and hosts, the memory of a core."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import kernels

from common.errors import UserError

# The --tpu_name on a TPU VM, which is the machine of the TPU itself.
LOCAL = "local"
# Bytes that a core can address. https://cloud.google.com/tpu/docs/system-architecture-tpu-vm
CORE_BYTES = {"v2": 8 << 30, "v3": 16 << 30, "v4": 32 << 30, "v5e": 16 << 30}
# Generations that run TPUEstimator. Other generations have no runtime of TensorFlow for it.
GENERATIONS = ("v2", "v3", "v4")
# Cores of a host of v4; a host of v2 or v3 has eight cores.
CORES_OF_V4_HOST = 4
TIMEOUT_MS = 60 * 1000


class TPU(NamedTuple):
    """The values of a TPU that a training step uses."""

    num_cores: int
    num_hosts: int
    generation: str  # a key of CORE_BYTES


def make_resolver(settings):
    """Return the TPUClusterResolver of --tpu_name, or None if --master is given instead.

    Args:
        settings: `flags.RunSettings`.

    Raises:
        UserError: if the name cannot be resolved.
    """
    if not settings.tpu_name:
        return None
    try:
        return tf.distribute.cluster_resolver.TPUClusterResolver(
            settings.tpu_name, zone=settings.tpu_zone, project=settings.gcp_project
        )
    except Exception as error:  # the client of Google Cloud raises errors of many types
        raise UserError(
            "--tpu_name={} cannot be looked up ({}): a name needs --tpu_zone, --gcp_project and "
            'pip install ".[tpu]"; on a TPU VM the name of its own TPU is {}'.format(
                settings.tpu_name, str(error).strip().split("\n")[0], LOCAL
            )
        ) from error


def find(settings):
    """Return the `TPU` of the flags; asks the TPU itself where --num_tpu_cores is left out.

    Args:
        settings: `flags.RunSettings`.

    Raises:
        UserError: if TensorFlow cannot drive a TPU, or reaches none.
    """
    num_cores = settings.num_tpu_cores
    cores_of_host = 8
    if not num_cores:
        hosts = [core.task for core in list_cores(settings)]
        num_cores, cores_of_host = len(hosts), hosts.count(hosts[0])
    is_v4 = cores_of_host == CORES_OF_V4_HOST
    generation = settings.tpu_generation or ("v4" if is_v4 else "v3")
    return TPU(num_cores, max(1, num_cores // cores_of_host), generation)


def list_cores(settings):
    """Return the DeviceSpec of every core of a TPU.

    Raises:
        UserError: as in `find`.
    """
    if settings.tpu_name == LOCAL:
        check_kernels()
    resolver = make_resolver(settings)
    config = tf.ConfigProto(operation_timeout_in_ms=TIMEOUT_MS)
    master = resolver.master() if resolver else settings.master
    if resolver and resolver.cluster_spec():
        config.cluster_def.CopyFrom(resolver.cluster_spec().as_cluster_def())
    try:
        with tf.Graph().as_default(), tf.Session(master, config=config) as session:
            names = [device.name for device in session.list_devices()]
    except tf.errors.OpError as error:
        names, reason = [], str(error.message).split("\n")[0]
    else:
        reason = "it has {}".format(", ".join(names))
    specs = [tf.DeviceSpec.from_string(name) for name in names]
    cores = [spec for spec in specs if spec.device_type == "TPU"]
    if not cores:
        raise UserError(
            "no TPU core answers at {} ({}): check that the TPU is ready; --num_tpu_cores=N skips "
            "this question".format(settings.tpu_name or settings.master, reason)
        )
    return cores


def check_kernels():
    """Raise `UserError` if this TensorFlow has no kernels for the TPU of this machine."""
    if not kernels.get_registered_kernels_for_op("ConfigureDistributedTPU").kernel:
        raise UserError(
            "TensorFlow {} in {} has no kernels for TPUs, like all wheels of PyPI: on a TPU VM use "
            "the TensorFlow of its image: bash make_venv.sh --tpu (see docs/tpu.md)".format(
                tf.version.VERSION, tf.sysconfig.get_lib()
            )
        )
