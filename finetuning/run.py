"""A fine-tuning run whose checks have passed, with its splits and seeds."""

from typing import Dict, List, NamedTuple

from absl import flags

from checkpointing.find import find_checkpoint
from checkpointing.run_folder import Start
from common.errors import UserError
from finetuning.seeds import SeedRun
from finetuning_data.encoding import EncodedSplit
from kinds.kind import Data, Kind
from tokenization import FullTokenizer
from training.flags import RunSettings
from training.placement import Computation
from training.preflight import Model, Schedule
from training.run_report import identify_checkpoint


class Work(NamedTuple):
    """The splits and the seeds of a run."""

    settings: RunSettings
    splits: List[str]  # of train, dev and test
    seed_runs: List[SeedRun]

    @property
    def folders(self):
        return [seed_run.folder for seed_run in self.seed_runs]


class FinetuningRun(NamedTuple):
    """A run whose checks have passed."""

    kind: Kind
    args: flags.FlagValues
    work: Work
    model: Model
    data: Data
    tokenizer: FullTokenizer
    schedule: Schedule
    computation: Computation
    starts: Dict[str, Start]  # by folder
    encoded: Dict[str, EncodedSplit] = {}  # by split

    def settings_of(self, seed_run):
        """Return the `RunSettings` of the run of one seed."""
        return self.work.settings._replace(
            output_dir=seed_run.folder,
            random_seed=seed_run.seed,
            init_checkpoint=self.starts[seed_run.folder].checkpoint,
            train_batch_size=self.schedule.train_batch_size,
        )

    def training_settings(self, seed_run):
        """Return everything that the best weights and their scores depend on.

        Returns:
            dict of name to JSON value.
        """
        args, schedule = self.args, self.schedule
        flags_of_scores = set(self.kind.head_flags + self.kind.prediction_flags)
        return dict(
            self.model.config.to_dict(),
            **schedule.optimizer._replace(rate_factors=args.layerwise_lr_decay)._asdict(),
            **{name: getattr(args, name) for name in flags_of_scores},
            train_batch_size=schedule.train_batch_size,
            precision=self.work.settings.precision,
            seed=seed_run.seed,
            data={s: self.encoded[s].name for s in ("train", "dev") if s in self.work.splits},
            eval_every_steps=schedule.eval_every_steps,
            patience=args.patience,
            init_checkpoint=_initial_sha256(args.init_checkpoint),
        )


def _initial_sha256(path):
    """Return the hash of the checkpoint that --init_checkpoint names, or None."""
    try:
        path = path and find_checkpoint(path)
    except UserError:  # it was removed; runs with checkpoints of their own do not need it
        path = None
    return identify_checkpoint(path)["index_sha256"]
