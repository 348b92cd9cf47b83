"""Raw text to TFRecords of pre-training instances for ALBERT.

    python create_pretraining_data.py --input_file=data/news_zh_1.txt \\
        --output_file=data/news.tfrecord --vocab_file=albert_config/vocab.txt

Input: UTF-8 text, one sentence a line, a blank line between documents. `pipeline/masking.py` says
how instances are made.
"""

import functools
import hashlib
import platform
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags

from pipeline import cli, corpus, instances, masking, records, segmenters
from pipeline.errors import UserError
from tokenization import FullTokenizer

PROGRESS_SECONDS = 10


def define_flags(flag_values):
    """Define the flags on a `FlagValues`; names and defaults as published, then ours."""
    own = {"flag_values": flag_values}
    flags.DEFINE_string(
        "input_file", None, "Text files: paths and globs, separated by commas.", **own
    )
    flags.DEFINE_string(
        "output_file", None, "TFRecord file, or several separated by commas.", **own
    )
    flags.DEFINE_string("vocab_file", None, "WordPiece vocabulary, one piece a line.", **own)
    flags.DEFINE_bool("do_lower_case", True, "Lower-case the text and strip accents.", **own)
    flags.DEFINE_bool(
        "do_whole_word_mask", True, "Mask whole words; otherwise every piece is a word.", **own
    )
    flags.DEFINE_integer(
        "max_seq_length",
        512,
        "Length of the sequences, special pieces included.",
        lower_bound=masking.MIN_SEQ_LENGTH,
        **own
    )
    flags.DEFINE_integer(
        "max_predictions_per_seq", 51, "Most masked pieces in a sequence.", lower_bound=1, **own
    )
    flags.DEFINE_integer("random_seed", 12345, "Equal seeds give equal bytes.", **own)
    flags.DEFINE_integer(
        "dupe_factor", 10, "Number of differently masked duplicates.", lower_bound=1, **own
    )
    flags.DEFINE_float(
        "masked_lm_prob",
        0.1,
        "Share of the pieces to mask, never exceeded.",
        lower_bound=0.0,
        upper_bound=1.0,
        **own
    )
    flags.DEFINE_float(
        "short_seq_prob",
        0.1,
        "Probability of a sequence that aims at a random, shorter length.",
        lower_bound=0.0,
        upper_bound=1.0,
        **own
    )
    flags.DEFINE_bool(
        "non_chinese", False, "The text is not Chinese: no segmenter, words as tokenized.", **own
    )
    _define_own_flags(own)
    for name in ("input_file", "output_file", "vocab_file"):
        flags.mark_flag_as_required(name, flag_values)


def _define_own_flags(own):
    flags.DEFINE_integer(
        "ngram", 3, "Most words in a masked gram; 1 masks single words.", lower_bound=1, **own
    )
    flags.DEFINE_enum(
        "favor_ngram",
        "shorter",
        sorted(masking.GRAM_WEIGHTS),
        "Probability of a gram of n words: proportional to 1/n (shorter), equal, or longer first.",
        **own
    )
    flags.DEFINE_bool(
        "replace_spans", False, "Draw 80/10/10 once for each gram, not for each piece.", **own
    )
    flags.DEFINE_enum(
        "segmenter",
        "auto",
        ["auto"] + sorted(segmenters.SEGMENTERS),
        "What finds the words; auto: rjieba where installed, else jieba.",
        **own
    )
    flags.DEFINE_string("user_dict", None, "Dictionary of further words, for jieba.", **own)
    flags.DEFINE_bool(
        "published_labels",
        False,
        "Labels of the later characters of a Chinese word keep the ## that the published tool "
        "left on them: only to continue a checkpoint trained so.",
        **own
    )


def main(args):
    """Make the records and their manifest."""
    tf.logging.set_verbosity(tf.logging.INFO)
    start = time.time()
    files = records.find_files(args.input_file)
    outputs = _output_files(args.output_file, files)
    _warn_of_lengths(args)
    tokenizer = FullTokenizer(args.vocab_file, args.do_lower_case)
    segmenter = _load_segmenter(args)
    made = _make_all(_instance_maker(args, tokenizer, segmenter), files)
    _write(made, outputs, files)
    summary = instances.summarize(made.statistics, made.unknown, args.max_seq_length)
    manifest = {
        "flags": _flag_values(args),
        "versions": _versions(),
        "segmenter": "{} {}".format(segmenter.name, segmenter.version).strip(),
        "vocab_sha256": _sha256(args.vocab_file),
        "vocab_size": len(tokenizer.vocab),
        "inputs": [{"path": path, "sha256": _sha256(path)} for path in files],
        "outputs": outputs,
        "counts": dict(sorted(made.statistics.items())),
        "statistics": summary,
    }
    records.write_manifest(outputs[0], manifest)
    _log_summary(manifest, time.time() - start)


def _output_files(output_file, files):
    outputs = [path.strip() for path in output_file.split(",") if path.strip()]
    if not outputs:
        raise UserError("no output file is named in {!r}".format(output_file))
    for path in outputs:
        if path in files or outputs.count(path) > 1:
            raise UserError("--output_file: {} is an input too, or named twice".format(path))
    return outputs


def _warn_of_lengths(args):
    masked = round(args.masked_lm_prob * args.max_seq_length)
    if masked > args.max_predictions_per_seq:
        tf.logging.warning(
            "--masked_lm_prob would mask %d pieces of a full sequence but "
            "--max_predictions_per_seq allows %d",
            masked,
            args.max_predictions_per_seq,
        )


def _load_segmenter(args):
    needs_none = args.non_chinese or not args.do_whole_word_mask
    name = "none" if needs_none and args.segmenter == "auto" else args.segmenter
    segmenter = segmenters.load_segmenter(name, args.user_dict)
    tf.logging.info("segmenter: %s %s", segmenter.name, segmenter.version)
    if segmenter.note:
        tf.logging.warning("segmenter: %s", segmenter.note)
    return segmenter


def _instance_maker(args, tokenizer, segmenter):
    schema = records.pretraining_schema(args.max_seq_length, args.max_predictions_per_seq)
    return instances.InstanceMaker(
        tokenizer=tokenizer,
        segment=segmenter.segment if args.do_whole_word_mask else None,
        vocabulary=masking.describe_vocabulary(tokenizer.vocab, args.published_labels),
        config=masking.MaskingConfig(
            max_seq_length=args.max_seq_length,
            max_predictions_per_seq=args.max_predictions_per_seq,
            masked_lm_prob=args.masked_lm_prob,
            short_seq_prob=args.short_seq_prob,
            gram_probabilities=masking.gram_probabilities(args.ngram, args.favor_ngram),
            replace_spans=args.replace_spans,
        ),
        random_seed=args.random_seed,
        dupe_factor=args.dupe_factor,
        serialize=functools.partial(records.serialize, schema),
    )


def _make_all(maker, files):
    """Return one `BlockResult` of all the blocks of the files."""
    progress = _Progress(sum(tf.io.gfile.stat(path).length for path in files))
    results = []
    for block in corpus.read_blocks(files, tf.io.gfile.GFile):
        results.append(maker(block))
        progress.add(len(block.data), len(results[-1].records))
    return instances.merge(results)


def _write(made, outputs, files):
    """Write the records in the order of their keys; each output holds an equal range of keys."""
    if not made.records:
        raise UserError(
            "{}: no instance came out: {} documents, of which {} have fewer than 2 pieces".format(
                ", ".join(files),
                made.statistics["documents"],
                made.statistics["documents_dropped_as_too_short"],
            )
        )
    order = np.argsort(made.keys, kind="stable")
    bounds = np.arange(len(outputs) + 1) / len(outputs)
    edges = np.searchsorted(made.keys[order], bounds)
    if 0 in np.diff(edges):
        raise UserError(
            "{} instances are too few for {} output files: name fewer".format(
                len(order), len(outputs)
            )
        )
    records.remove_manifest(outputs[0])
    for path, begin, end in zip(outputs, edges[:-1], edges[1:]):
        with records.RecordWriter(path) as writer:
            for i in order[begin:end].tolist():
                writer.write(made.records[i])


class _Progress:
    """Logs how far it is, the rate and the time left, at most every PROGRESS_SECONDS."""

    def __init__(self, total_bytes):
        self._total = total_bytes
        self._start = self._logged = time.time()
        self._bytes = self._instances = 0

    def add(self, num_bytes, num_instances):
        """Count what has been done since the last call."""
        self._bytes += num_bytes
        self._instances += num_instances
        now = time.time()
        if now - self._logged < PROGRESS_SECONDS:
            return
        self._logged = now
        seconds = now - self._start
        tf.logging.info(
            "%.1f of %.1f MB, %d instances, %d instances/s, %d s left",
            self._bytes / 1e6,
            self._total / 1e6,
            self._instances,
            self._instances / seconds,
            seconds * (self._total - self._bytes) / max(self._bytes, 1),
        )


def _flag_values(args):
    own = flags.FlagValues()
    define_flags(own)
    return {name: args[name].value for name in sorted(own)}


def _versions():
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


def _sha256(path):
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _log_summary(manifest, seconds):
    counts = manifest["counts"]
    tf.logging.info(
        "wrote %d instances of %d documents (%d dropped: fewer than 2 pieces) to %s in %.0f s",
        counts["instances"],
        counts["documents"],
        counts["documents_dropped_as_too_short"],
        ", ".join(manifest["outputs"]),
        seconds,
    )
    for name, value in manifest["statistics"].items():
        tf.logging.info("%s: %s", name, value)


if __name__ == "__main__":
    cli.run(main, define_flags)
