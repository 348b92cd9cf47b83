"""A fine-tuning run whose checks have passed, with its splits and seeds."""

from typing import Dict, List, NamedTuple

from absl import flags

from checkpointing.run_folder import Start
from finetuning.seeds import SeedRun
from finetuning_data.encoding import EncodedSplit
from kinds.kind import Data, Kind
from tokenization import FullTokenizer
from training.flags import RunSettings
from training.placement import Computation
from training.preflight import Model, Schedule


class Work(NamedTuple):
    """The splits and the seeds of a run."""

    settings: RunSettings
    splits: List[str]  # some of train, dev and test
    seed_runs: List[SeedRun]

    @property
    def folders(self):
        return [seed_run.folder for seed_run in self.seed_runs]


class MadeWith(NamedTuple):
    """The values that the results of the runs depend on."""

    features: Dict[str, str]  # split -> name of the file of its rows
    # Folder of a run that trains -> name -> JSON value, for the best weights and their scores.
    settings: Dict[str, dict]


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
    made_with: MadeWith
    encoded: Dict[str, EncodedSplit] = {}  # by split

    def settings_of(self, seed_run):
        """Return the `RunSettings` of the run of one seed."""
        return self.work.settings._replace(
            output_dir=seed_run.folder,
            random_seed=seed_run.seed,
            init_checkpoint=self.starts[seed_run.folder].checkpoint,
            train_batch_size=self.schedule.train_batch_size,
        )
