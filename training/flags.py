"""The flags that the run scripts share, and their values as `RunSettings`."""

from typing import NamedTuple, Optional

from checkpointing import restore
from common import cli, files
from common.errors import UserError
from training import devices, tpu

REMOTE_PREFIXES = ("gs://", "/bigstore/", "/cns/")


class RunSettings(NamedTuple):
    """Where and how a script runs: the values of the flags below."""

    output_dir: str
    init_checkpoint: Optional[str]
    allow_missing: bool
    allow_vocab_resize: bool
    allow_more_positions: bool
    allow_more_layers: bool
    train_batch_size: int
    eval_batch_size: int
    save_checkpoints_steps: int
    keep_checkpoint_max: int
    iterations_per_loop: int
    random_seed: int
    strategy: str
    require_accelerator: bool
    micro_batch_size: int
    precision: str
    recompute_activations: bool
    use_xla: bool
    use_tpu: bool
    tpu_name: Optional[str]
    tpu_zone: Optional[str]
    gcp_project: Optional[str]
    master: Optional[str]
    num_tpu_cores: Optional[int]  # None until `preflight.check_tpu` has found it
    tpu_generation: Optional[str]  # None until `preflight.check_tpu` has found it
    predict_batch_size: Optional[int] = None  # None for a script that does not predict

    @property
    def may_resize(self):
        """Names of `restore.RESIZES`: what a warm start may change."""
        allowed = (
            (restore.FEWER_POSITIONS, True),
            (restore.MORE_POSITIONS, self.allow_more_positions),
            (restore.MORE_PIECES, self.allow_vocab_resize),
        )
        return tuple(name for name, is_allowed in allowed if is_allowed)


def define_run_flags(flag_values, train_batch_size, eval_batch_size, predict_batch_size=None):
    """Define the flags that `RunSettings` holds.

    Args:
        flag_values: absl's `FlagValues`.
        train_batch_size: int, default; None where the script chooses one by the model's size.
        eval_batch_size: int, default.
        predict_batch_size: int, default; None for a script that does not predict.
    """
    define = cli.flag_definer(flag_values)
    _define_start_flags(define)
    define.integer(
        "train_batch_size",
        train_batch_size,
        "Examples per training step, over all devices." + _by_size(train_batch_size),
        lower_bound=1,
    )
    define.integer(
        "eval_batch_size", eval_batch_size, "Examples per evaluation step.", lower_bound=1
    )
    if predict_batch_size:
        define.integer(
            "predict_batch_size", predict_batch_size, "Examples per prediction step.", lower_bound=1
        )
    define.integer("save_checkpoints_steps", 1000, "Steps between two checkpoints.", lower_bound=1)
    define.integer("keep_checkpoint_max", 5, "Number of latest checkpoints to keep.", lower_bound=1)
    define.integer(
        "iterations_per_loop", 1000, "Steps of a TPU between reports to its host.", lower_bound=1
    )
    define.integer(
        "random_seed",
        12345,
        "Seed of initial weights, dropout and shuffling.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )
    _define_device_flags(define)


def _define_start_flags(define):
    define.string("output_dir", None, "Folder for checkpoints and results.", required=True)
    define.string(
        "init_checkpoint",
        None,
        "Checkpoint to start from: a prefix such as albert_base_zh/bert_model.ckpt, or a folder. "
        "Not used if output_dir already holds a checkpoint.",
    )
    define.bool(
        "resume_foreign",
        False,
        "Resume from a checkpoint in output_dir that no run of this code saved, with its step and "
        "its optimizer's slots.",
    )
    define.bool(
        "allow_missing",
        False,
        "If init_checkpoint lacks variables, give them random values instead of stopping.",
    )
    define.bool(
        "allow_vocab_resize",
        False,
        "If the vocabulary is larger than in init_checkpoint, give the new pieces random weights "
        "instead of stopping.",
    )
    define.bool(
        "allow_more_positions",
        False,
        "If the config has more positions than init_checkpoint, repeat its rows of the position "
        "table instead of stopping.",
    )
    define.bool(
        "allow_more_layers",
        False,
        "Start even if the config has another number of layers than the config of init_checkpoint. "
        "All layers must share their weights.",
    )


OPTIMIZER_FLAGS = ("optimizer", "learning_rate", "weight_decay")


def define_optimizer_flags(flag_values, optimizers, optimizer, learning_rate):
    """Define `OPTIMIZER_FLAGS`.

    Args:
        flag_values: absl's `FlagValues`.
        optimizers: names of all optimizers.
        optimizer: str, the default one.
        learning_rate: float, default; None where the script chooses one by the model's size.
    """
    define = cli.flag_definer(flag_values)
    define.enum("optimizer", optimizer, sorted(optimizers), "Optimizer.")
    define.float(
        "learning_rate",
        learning_rate,
        "Highest learning rate." + _by_size(learning_rate),
        lower_bound=0.0,
    )
    define.float("weight_decay", 0.01, "Weight decay.", lower_bound=0.0)


BY_SIZE = " Default: depends on the model's size, see the table in docs/training.md."


def _by_size(default):
    return BY_SIZE if default is None else ""


def optimizer_fields(args):
    """Return the values of `OPTIMIZER_FLAGS`, by name."""
    return {name: getattr(args, name) for name in OPTIMIZER_FLAGS}


def run_settings(args):
    """Return the `RunSettings` of parsed flags.

    Raises:
        UserError: for devices that are not there, a TPU without a name or with local paths.
    """
    given = {name: getattr(args, name) for name in RunSettings._fields if name in args}
    settings = RunSettings(**given)
    files.refuse_pattern(settings.output_dir)
    devices.check_device_flags(settings)
    if settings.use_tpu and not (settings.tpu_name or settings.master):
        raise UserError(
            "--use_tpu=True needs --tpu_name=NAME, grpc://ADDRESS:8470, or local on a TPU VM"
        )
    refuse_local_paths(settings, "output_dir", settings.output_dir)
    refuse_local_paths(settings, "init_checkpoint", settings.init_checkpoint)
    return settings


def refuse_local_paths(settings, flag, paths):
    """Raise UserError for a path on this machine if the TPU belongs to another machine.

    Args:
        settings: `RunSettings`.
        flag: str, the flag that names the paths.
        paths: str, separated by commas, or None.
    """
    if not settings.use_tpu or settings.tpu_name == tpu.LOCAL:
        return
    for path in filter(None, (paths or "").split(",")):
        if not path.strip().startswith(REMOTE_PREFIXES):
            raise UserError(
                "--{}={} is a local path, which a TPU cannot reach: use gs://...".format(
                    flag, path.strip()
                )
            )


def _define_device_flags(define):
    define.enum(
        "strategy",
        "none",
        sorted(devices.STRATEGIES),
        "Devices to train on: one (none), all GPUs of this machine (mirrored), or all GPUs of "
        "several machines (multi_worker), which the environment variable TF_CONFIG names.",
    )
    define.bool("require_accelerator", False, "Stop if there is neither a GPU nor a TPU.")
    define.integer(
        "micro_batch_size",
        0,
        "Examples that a device computes at a time; the gradients of a step are added up. "
        "0: the largest number that is estimated to fit into its memory.",
        lower_bound=0,
    )
    define.enum(
        "precision",
        "float32",
        sorted(devices.PRECISIONS),
        "Type of the activations; weights, LayerNorm, softmax and losses stay float32. float16 is "
        "for GPUs older than A100; its loss scale is adapted in training. bfloat16 needs no scale.",
    )
    define.bool(
        "recompute_activations",
        False,
        "Keep only the inputs of the layers and compute the rest again for the gradient. A step "
        "takes a third more time and a fraction of the memory.",
    )
    define.bool("use_xla", False, "Compile whole training steps by XLA, which takes time at first.")
    define.bool("use_tpu", False, "Run on a TPU instead of GPU or CPU.")
    define.string(
        "tpu_name",
        None,
        "Name of the TPU, an address such as grpc://10.240.1.66:8470, or local on a TPU VM.",
    )
    define.string("tpu_zone", None, "Zone of the TPU. By default TensorFlow looks it up.")
    define.string("gcp_project", None, "Google Cloud project of the TPU.")
    define.string("master", None, "Address of a TensorFlow master, if any.")
    define.integer(
        "num_tpu_cores",
        None,
        "Number of TPU cores. By default the run asks the TPU.",
        lower_bound=1,
    )
    define.enum(
        "tpu_generation",
        None,
        tpu.GENERATIONS,
        "Generation of the TPU, which decides how many examples fit. Default: v4 if a host has 4 "
        "cores, else v3.",
    )
