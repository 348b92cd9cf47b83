"""The records that run_pretraining.py reads, in the published or in the compact format."""

import os
from typing import List, NamedTuple

import tensorflow.compat.v1 as tf

from checkpointing import run_folder
from common import cli
from common.errors import UserError
from common.files import find_files
from masking import graph, mask_settings
from tfrecords import compact, manifest, reader
from tfrecords.index import other_order, training_order
from tfrecords.wire import pretraining_schema

# Every evaluation of compact records draws the same masks.
EVALUATION_SEED = 0


def define_flags(flag_values):
    """Define the flags that name records and say how to read them."""
    define = cli.flag_definer(flag_values)
    define.string("input_file", None, "TFRecords to train on: paths and globs, comma-separated.")
    define.string(
        "eval_input_file",
        None,
        "TFRecords held out for evaluation. Default: the training files.",
    )
    define.integer(
        "max_seq_length", 512, "Pieces in a sequence; shorter records are padded.", lower_bound=1
    )
    define.integer(
        "max_predictions_per_seq",
        51,
        "Largest number of masked pieces in a sequence; records with fewer are padded. For "
        "compact records the default is the value with which they were made.",
        lower_bound=1,
    )
    define.string(
        "general_eval_input_file",
        None,
        "More TFRecords to evaluate on, such as general text when pre-training is continued on "
        "text of one domain; their scores begin with general_.",
    )
    mask_settings.define_flags(flag_values, of_records=True)
    reader.define_input_flags(flag_values)


class Split(NamedTuple):
    """The records for training or for one kind of evaluation, and how they become features."""

    paths: List[str]
    reads: object  # `reader.Examples` or `graph.Masking`; None if there are no paths


class Records(NamedTuple):
    """The records of a run."""

    train: Split
    evaluation: Split
    general: Split
    max_predictions_per_seq: int
    max_chunks_per_row: int  # 1 for the published format
    chunks_per_row: float  # average over the records to train on

    @property
    def paths(self):
        """All paths, sorted."""
        return sorted(set(self.train.paths + self.evaluation.paths + self.general.paths))

    def check_ids(self, vocab_size):
        """Check published records whose vocabulary no manifest names; see `reader.check_ids`."""
        published = [x.paths for x in self._splits() if isinstance(x.reads, reader.Examples)]
        manifests = manifest.find_manifests(sorted(set().union(*published)))
        for path, content in manifests.items():
            if not (content or {}).get("vocab_size"):
                reader.check_ids(path, vocab_size)

    def check_damage(self, args):
        """Read all records, see `reader.check_damage`; returns their number, or 0.

        Logs the number of passes over the records, and warns if a run would resume in
        `args.output_dir` with records in another order.
        """
        indexes = [
            reader.check_damage(
                split.paths, args.output_dir, args.skip_damaged, split.reads.find_fault
            )
            for split in self._splits()
        ]
        if args.do_train and indexes[0]:
            num_records = indexes[0].num_records
            reader.tell_passes(num_records, args.num_train_steps, args.train_batch_size)
            sizes = args.shuffle_buffer, args.train_batch_size
            order = training_order(indexes[0], args.random_seed, *sizes, self.train.reads.masks)
            line = other_order(args.output_dir, order)
            if line and run_folder.latest_step(args.output_dir):
                tf.logging.warning(line)
        return sum(index.num_records for index in indexes) if all(indexes) else 0

    def _splits(self):
        """Return the `Split`s that have paths; of several with equal paths only one."""
        splits = {tuple(x.paths): x for x in (self.train, self.evaluation, self.general)}
        return [split for paths, split in splits.items() if paths]


class _Format(NamedTuple):
    """The format of some files, and its sizes, as in `Records`."""

    reads: object
    max_predictions_per_seq: int
    max_chunks_per_row: int
    chunks_per_row: float


def read_records(args):
    """Find the records and their format; return the `Records`.

    Args:
        args: the parsed flags of run_pretraining.py.

    Raises:
        UserError: for records of both formats, or of one that the flags do not fit.
    """
    seeds = (args.random_seed, EVALUATION_SEED, EVALUATION_SEED)
    files_of_uses = find_records(args)
    formats = [_format_of(args, paths, seed) for paths, seed in zip(files_of_uses, seeds)]
    known = [one for one in formats if one]
    _refuse_masking_flags(args, known)
    splits = [Split(paths, one and one.reads) for paths, one in zip(files_of_uses, formats)]
    return Records(
        *splits,
        max(one.max_predictions_per_seq for one in known),
        max(one.max_chunks_per_row for one in known),
        known[0].chunks_per_row,
    )


def _format_of(args, paths, seed):
    """Return the `_Format` of files, or None where there are none."""
    is_compact = [compact.is_compact(reader.first_record(path)) for path in paths]
    if not any(is_compact):
        most = args.max_predictions_per_seq
        schema = pretraining_schema(args.max_seq_length, most)
        return _Format(reader.examples(paths, schema), most, 1, 1.0) if paths else None
    if not all(is_compact):
        raise UserError(
            "{} holds compact records and {} published ones: name files of one format".format(
                paths[is_compact.index(True)], paths[is_compact.index(False)]
            )
        )
    given = {name: args[name].value if args[name].present else None for name in mask_settings.FLAGS}
    config, vocabulary, limits, chunks_per_row = mask_settings.read_settings(
        paths, given, args.max_seq_length
    )
    return _Format(
        graph.Masking(config, vocabulary, limits, seed),
        config.max_predictions_per_seq,
        config.max_chunks_per_row,
        chunks_per_row,
    )


def _refuse_masking_flags(args, formats):
    if any(isinstance(one.reads, graph.Masking) for one in formats):
        return
    for name in set(mask_settings.FLAGS) - {"max_predictions_per_seq"}:
        if args[name].present:
            text = "--{}: the records are masked already, since they are not compact: leave it out"
            raise UserError(text.format(name))


def find_records(args):
    """Return three lists of paths: records to train on, to evaluate on, and of general text.

    Raises:
        UserError: where a file is needed and missing.
    """
    if not args.input_file and (args.do_train or not args.eval_input_file):
        raise UserError("--input_file is needed: TFRecords of create_pretraining_data.py")
    train = find_files(args.input_file) if args.input_file else []
    evaluation = find_files(args.eval_input_file) if args.eval_input_file else train
    general = args.general_eval_input_file
    general = find_files(general) if general else []
    trained_on = list(manifest.first_of_each(manifest.find_manifests(train)))
    made_of = _texts_of(trained_on)
    for flag, paths in (("eval_input_file", evaluation), ("general_eval_input_file", general)):
        equal = [path for path in paths if path in set(train)]
        if args.do_eval and equal:
            tf.logging.warning(
                "EVALUATION ON THE TRAINING FILES, {} of {}: the scores will not hold for new "
                "text; give other files with --{}".format(len(equal), len(paths), flag)
            )
        elif args.do_eval:
            _warn_of_same_text(trained_on, made_of, paths, flag)
    return train, evaluation, general


def _texts_of(trained_on):
    """Return the texts of records to train on; warn if two commands made records of one text.

    Args:
        trained_on: list of (path of the records, manifest).

    Returns:
        dict of sha256 of a text to (path of the text, path of records that were made of it).
    """
    made_of = {}
    for path, content in trained_on:
        for one in content.get("inputs", []):
            if one["sha256"] in made_of:
                tf.logging.warning(
                    "TEXT TWICE: %s and %s were both made of %s, which counts twice: name one of "
                    "them only",
                    made_of[one["sha256"]][1],
                    path,
                    one["path"],
                )
            made_of[one["sha256"]] = one["path"], path
    return made_of


def _warn_of_same_text(trained_on, made_of, paths, flag):
    """Warn if records to evaluate on were made from a text that is also trained on.

    Some shards of compact records may be held out, because each piece of text is in only one shard.

    Args:
        trained_on, made_of: as in `_texts_of`.
        paths: list of str, of the records to evaluate on.
        flag: str, name of the flag that names them.
    """
    manifests = [content for _, content in trained_on]
    for path, content in manifest.first_of_each(manifest.find_manifests(paths)):
        is_shard = os.path.basename(path) in map(os.path.basename, content.get("outputs", []))
        if content.get("compact") and is_shard and content in manifests:
            continue
        same = [one for one in content.get("inputs", []) if one["sha256"] in made_of]
        if same:
            text, records = made_of[same[0]["sha256"]]
            tf.logging.warning(
                "EVALUATION ON THE TRAINING TEXT: %s was made of %s, and %s of %s, which is the "
                "same text: the scores will not hold for new text; give records of other text "
                "with --%s",
                path,
                same[0]["path"],
                records,
                text,
                flag,
            )


def make_input_fn(args, split, training):
    """Return an input function; for training it starts at the step of the latest checkpoint.

    Args:
        args: the parsed flags of run_pretraining.py.
        split: `Split`.
        training: bool.

    Raises:
        UserError: as in `reader.make_input_fn`.
    """
    return reader.make_input_fn(
        split.paths,
        split.reads,
        training,
        seed=args.random_seed,
        batch_size=args.train_batch_size,
        first_example=lambda: run_folder.latest_step(args.output_dir) * args.train_batch_size,
        folder=args.output_dir,
        settings=reader.input_settings(args),
        num_steps=args.num_train_steps,
    )
