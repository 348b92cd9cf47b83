"""Turns raw text into TFRecords of pre-training instances for ALBERT.

    python create_pretraining_data.py --input_file=data/news_zh_1.txt \\
        --output_file=data/news.tfrecord --vocab_file=albert_config/vocab.txt

The input is UTF-8 text with one sentence a line and a blank line between documents, JSON lines, or
the output of WikiExtractor. The files may be gzipped. `masking/reference.py` specifies how
instances are made. The records depend on input, flags and seed, but not on the number of processes.
A killed run is resumed when it is started again with the same flags.
"""

import contextlib
import hashlib
import importlib
import os
import platform
import re
import shlex
import tempfile
import time

import numpy as np
from absl import flags, logging

from checkpointing import new_pieces
from common import cli, files, progress
from common.errors import UserError
from masking import mask_settings, reference, sentence_order
from pretraining_data import build, corpus, input_check, instances, rows, segmenters, show
from tfrecords import compact
from tokenization import FullTokenizer

# The records do not depend on these flags. Without --skip_bad_lines, a bad line ends the run.
# Raise it when the same text and flags give other records.
RECORDS_VERSION = 2
RUN_FLAGS = (
    "num_workers", "overwrite", "work_dir", "show", "runner", "runner_options", "skip_bad_lines"
)  # fmt: skip
# Format -> (class that makes the records, function that shows some of them as text).
RECORD_FORMATS = {
    "published": (instances.InstanceMaker, show.format_instances),
    "compact": (rows.RowMaker, show.format_rows),
}
MOST_CHUNKS = 64
MANY_UNKNOWN = 0.05  # share of [UNK] that gets a warning
MANY_SINGLE = 0.97  # words per piece above which there is a warning; Chinese text has 0.6 to 0.8
LOW_FILL = 0.9  # share of used positions in compact records of small files that gets a warning
FEW_ORDERS = 0.2  # share of the chunks of compact records below which there is a warning
FEW_SENTENCES = 1.5  # sentences of a document, on average, below which there is a warning
LONG_LINE = 400  # bytes; a longer line is probably an article, not a sentence


def define_flags(flag_values):
    """Define the flags on a `FlagValues`: flags of the published tool first, then our own."""
    define = cli.flag_definer(flag_values)
    text = "Text files: paths and globs, separated by commas."
    define.string("input_file", None, text, required=True)
    text = (
        "TFRecord files, separated by commas; --num_output_shards puts numbers into a single name."
    )
    define.string("output_file", None, text, required=True)
    define.string("vocab_file", None, "WordPiece vocabulary, one piece a line.", required=True)
    define.bool("do_lower_case", True, "Lower-case the text and strip accents.")
    define.bool("do_whole_word_mask", True, "Mask whole words; otherwise every piece is a word.")
    _define_instance_flags(define)
    mask_settings.define_flags(flag_values, of_records=False)
    _define_word_flags(define)
    _define_record_flags(define)
    _define_format_flags(define)
    _define_run_flags(define)


def _define_instance_flags(define):
    def integer(name, default, text, low, high):
        define.integer(name, default, text, lower_bound=low, upper_bound=high)

    def probability(name, default, text):
        define.float(name, default, text, lower_bound=0.0, upper_bound=1.0)
        define.validator(name, lambda p: p == p, "not a number")  # the bounds accept "nan"

    shortest, longest = sentence_order.MIN_SEQ_LENGTH, reference.MAX_SEQ_LENGTH
    text = "Length of the sequences, special pieces included."
    integer("max_seq_length", 512, text, shortest, longest)
    text = "Largest number of masked pieces in a sequence."
    integer("max_predictions_per_seq", 51, text, 1, longest)
    integer("random_seed", 12345, "Seed. Equal seeds give equal bytes.", -(2**63), 2**63 - 1)
    integer("dupe_factor", 10, "Number of differently masked duplicates.", 1, None)
    text = "Probability of a sequence that aims at a random, shorter length."
    probability("short_seq_prob", 0.1, text)
    define.bool(
        "non_chinese", False, "The text is not Chinese: the tokenizer alone finds the words."
    )


def _define_word_flags(define):
    names = ["auto"] + sorted(segmenters.SEGMENTERS)
    text = "Segmenter that finds the words; auto: rjieba where installed, else jieba."
    define.enum("segmenter", "auto", names, text)
    define.string("user_dict", None, "Dictionary of further words, for jieba.")
    text = (
        "Keep the ## that the published tool left on the labels of the later characters of a "
        "Chinese word; only to continue a checkpoint that was trained with them."
    )
    define.bool("published_labels", False, text)


def _define_record_flags(define):
    text = (
        "published: tf.train.Example records that are masked now, in duplicates; compact: rows of "
        "text, 20 to 40 times smaller, that run_pretraining.py masks anew in every epoch."
    )
    define.enum("record_format", "published", list(RECORD_FORMATS), text)
    text = "Largest number of chunks in a row of compact records; 1: every chunk has its own row."
    define.integer("max_chunks_per_row", 8, text, lower_bound=1, upper_bound=MOST_CHUNKS)


def _define_format_flags(define):
    text = (
        "text: one sentence a line, blank lines between documents; jsonl: a JSON object a line; "
        "wikiextractor: the <doc> elements that WikiExtractor writes."
    )
    define.enum("input_format", "text", corpus.FORMATS, text)
    define.list("text_fields", ["title", "content"], "Fields of JSON lines that hold the text.")
    define.bool("split_sentences", False, "Split lines into sentences after 。！？；… and quotes.")
    text = "Remove HTML tags and entities; False keeps them. By default files of HTML are refused."
    define.bool("strip_html", None, text)
    text = "Leave out and count lines that are not UTF-8 or not JSON, instead of stopping."
    define.bool("skip_bad_lines", False, text)
    text = "Number of output files: news.tfrecord becomes news-00000-of-00010.tfrecord and so on."
    define.integer("num_output_shards", None, text, lower_bound=1)
    define.bool("compress", False, "Gzip the output files.")


def _define_run_flags(define):
    text = "Number of processes. Default: the number of cores."
    define.integer("num_workers", None, text, lower_bound=1)
    text = "Runner of Apache Beam, such as DataflowRunner; needs the extra `beam`."
    define.string("runner", None, text)
    define.string("runner_options", "", "Flags of that runner, in one string: '--a=b --c=d'.")
    text = "Replace records, or an unfinished run, that were made with other flags."
    define.bool("overwrite", False, text)
    define.string("work_dir", None, "Local folder for the unfinished parts of a run.")
    define.integer("show", 0, "Number of records to print as text.", lower_bound=0)


def main(args):
    """Make the records and their manifest."""
    logging.set_verbosity(logging.INFO)
    start = time.time()
    inputs = files.find_files(args.input_file)
    outputs = _output_files(args, inputs)
    _warn_of_lengths(args)
    tokenizer = FullTokenizer(args.vocab_file, args.do_lower_case)
    new_pieces.warn_of_unused(args.vocab_file, tokenizer)
    _warn_of_case(args, tokenizer)
    _check_record_format(args, tokenizer)
    segmenter = _load_segmenter(args)
    maker = _instance_maker(args, tokenizer, segmenter)
    job = build.Job(
        maker=maker,
        inputs=inputs,
        outputs=outputs,
        stale_outputs=_stale_shards(args, outputs),
        folder=_work_folder(args, outputs[0]),
        settings=_settings(args, tokenizer, segmenter, maker),
        num_workers=args.num_workers or _num_cores(),
        compress=args.compress,
    )
    input_check.check_inputs(inputs, job.maker.format)
    if args.show:
        _show(args, job, tokenizer)
    with build.work_folder(job.folder):
        if build.check_outputs(job, args.overwrite):
            logging.info("made already, of this input with these flags: %s", ", ".join(outputs))
            return
        manifest = _create(args, job)
    _log_summary(manifest, time.time() - start)


def _create(args, job):
    """Make the records on this machine or with Apache Beam; return the manifest, a dict."""
    if args.runner:
        try:
            options = shlex.split(args.runner_options)
        except ValueError as error:
            raise UserError("--runner_options={}: {}".format(args.runner_options, error)) from error
        try:
            beam = importlib.import_module("pretraining_data.beam")
        except ImportError as error:
            text = '--runner={} needs Apache Beam: pip install ".[beam]"'
            raise UserError(text.format(args.runner)) from error
        return beam.create(job, args.runner, options)
    with progress.Progress(sum(map(files.size, job.inputs)), len(job.outputs)) as shown:
        return build.create(job, shown)


def _output_files(args, inputs):
    outputs = [path.strip() for path in args.output_file.split(",") if path.strip()]
    if not outputs:
        raise UserError("no output file is named in {!r}".format(args.output_file))
    number = args.num_output_shards
    if number and len(outputs) > 1:
        text = "--num_output_shards={} and {} names in --output_file: give one of both"
        raise UserError(text.format(number, len(outputs)))
    for path in outputs:
        if path.endswith("/") or files.is_folder(path):
            raise UserError("--output_file: {} is a folder: name a file in it".format(path))
    if number:
        name = "{}-{:05d}-of-{:05d}{}"
        base, extension = os.path.splitext(outputs[0])
        outputs = [name.format(base, i, number, extension) for i in range(number)]
    taken = set(map(os.path.realpath, inputs))
    for path in outputs:
        if os.path.realpath(path) in taken:
            raise UserError("--output_file: {} is an input too, or named twice".format(path))
        taken.add(os.path.realpath(path))
    return outputs


def _stale_shards(args, outputs):
    """Return the paths of older shards that belong to another --num_output_shards."""
    if not args.num_output_shards:
        return []
    # Only names are compared, since --output_file may write the folder as in "./a" or "b//a".
    name = os.path.basename(args.output_file.strip(" ,"))
    base, extension = map(re.escape, os.path.splitext(name))
    unfinished = re.escape(files.TEMPORARY_SUFFIX)
    stale = re.compile("{}-[0-9]{{5,}}-of-[0-9]{{5,}}{}({})?$".format(base, extension, unfinished))
    paths = files.list_files(os.path.dirname(outputs[0]) or ".")
    names = {os.path.basename(path): path for path in paths}
    own = set(map(os.path.basename, outputs))
    return sorted(path for name, path in names.items() if stale.match(name) and name not in own)


def _warn_of_case(args, tokenizer):
    """Warn of --do_lower_case=False with a vocabulary that has no capital letters."""
    words = (
        piece for piece in tokenizer.vocab if piece[:1] not in "[<"
    )  # without [CLS], <S> and the like
    if not args.do_lower_case and all(word == word.lower() for word in words):
        logging.warning(
            "LOWER CASE: %s has no capital letters, so a word with one becomes [UNK]: a lower-case "
            "vocabulary needs --do_lower_case=True",
            args.vocab_file,
        )


def _warn_of_lengths(args):
    masked, most = int(args.masked_lm_prob * args.max_seq_length), args.max_predictions_per_seq
    if masked > most:
        text = (
            "--masked_lm_prob asks for %d pieces of a sequence, --max_predictions_per_seq allows %d"
        )
        logging.warning(text, masked, most)


def _load_segmenter(args):
    needs_none = args.non_chinese or not args.do_whole_word_mask
    name = "none" if needs_none and args.segmenter == "auto" else args.segmenter
    segmenter = segmenters.load_segmenter(name, args.user_dict)
    logging.info("segmenter: %s %s", segmenter.name, segmenter.version)
    if segmenter.note:
        logging.warning("segmenter: %s", segmenter.note)
    return segmenter


def _instance_maker(args, tokenizer, segmenter):
    vocabulary = reference.make_vocabulary(tokenizer.vocab, args.published_labels)
    if not len(vocabulary.replacements):
        raise UserError("vocabulary {}: all pieces are special ones".format(args.vocab_file))
    is_compact = args.record_format == "compact"
    make, _ = RECORD_FORMATS[args.record_format]
    return make(
        tokenizer=tokenizer,
        segmenter=segmenter if args.do_whole_word_mask else None,
        vocabulary=vocabulary,
        config=mask_settings.masking_config(
            {name: args[name].value for name in mask_settings.FLAGS},
            max_seq_length=args.max_seq_length,
            short_seq_prob=args.short_seq_prob,
            max_chunks_per_row=args.max_chunks_per_row if is_compact else 1,
        ),
        format=corpus.Format(
            args.input_format,
            tuple(args.text_fields),
            args.split_sentences,
            args.skip_bad_lines,
            args.strip_html,
        ),
        random_seed=args.random_seed,
        dupe_factor=1 if is_compact else args.dupe_factor,
    )


def _check_record_format(args, tokenizer):
    """Refuse flags that --record_format does not support."""
    if args.record_format != "compact":
        if args["max_chunks_per_row"].present:
            raise UserError("--max_chunks_per_row needs --record_format=compact")
        return
    if args["dupe_factor"].present and args.dupe_factor != 1:
        raise UserError(
            "--dupe_factor={} with --record_format=compact: a run masks these records anew in "
            "every epoch, so leave --dupe_factor out".format(args.dupe_factor)
        )
    if args.published_labels:
        raise UserError("--published_labels needs --record_format=published")
    if len(tokenizer.vocab) > compact.MAX_VOCABULARY:
        raise UserError(
            "vocabulary {}: compact records have room for {} pieces, and it has {}: give "
            "--record_format=published".format(
                args.vocab_file, compact.MAX_VOCABULARY, len(tokenizer.vocab)
            )
        )


def _show(args, job, tokenizer):
    block = next(corpus.read_blocks(0, job.inputs[0], job.block_bytes(), job.maker.format))
    tokenized = job.maker.tokenize(block)
    _, format_records = RECORD_FORMATS[args.record_format]
    with contextlib.suppress(BrokenPipeError):  # the reader has ended, as `head` does
        print(format_records(job.maker, tokenized, tokenizer.inv_vocab, args.show), flush=True)


def _work_folder(args, output):
    """Return the folder for the unfinished parts of the run whose first output this is."""
    work_dir = args.work_dir
    if args.num_output_shards:  # A run with another number of shards has the same folder.
        output = args.output_file.strip(" ,")
    if work_dir:
        if not files.is_local(work_dir):
            raise UserError("--work_dir: {} is not local: name a local folder".format(work_dir))
        return os.path.join(work_dir, os.path.basename(output) + files.WORK_SUFFIX)
    if files.is_local(output):
        return output + files.WORK_SUFFIX
    name = "albert-" + hashlib.sha256(output.encode("utf-8")).hexdigest()[:16]
    return os.path.join(tempfile.gettempdir(), name + files.WORK_SUFFIX)


def _settings(args, tokenizer, segmenter, maker):
    """Return a dict for JSON: all that the records depend on, except the inputs."""
    own = flags.FlagValues()
    define_flags(own)
    names = sorted(set(own) - set(RUN_FLAGS))
    is_compact = args.record_format == "compact"
    return {
        "flags": {name: args[name].value for name in names},
        "compact": mask_settings.vocabulary_entry(maker.vocabulary) if is_compact else None,
        "versions": {
            "records": RECORDS_VERSION,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "segmenter": "{} {}".format(segmenter.name, segmenter.version).strip(),
        "user_dict_sha256": files.sha256(args.user_dict) if args.user_dict else None,
        "vocab_sha256": files.vocabulary_sha256(args.vocab_file),
        "vocab_size": len(tokenizer.vocab),
    }


def _num_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _log_summary(manifest, seconds):
    counts, outputs = manifest["counts"], ", ".join(manifest["outputs"])
    made = "{} instances".format(counts["instances"])
    if "rows" in counts:
        made = "{} rows of {} chunks".format(counts["rows"], counts["instances"])
    text = "wrote %s of %d documents to %s in %.1f s"
    logging.info(text, made, counts["documents"], outputs, seconds)
    for name, number in counts.items():
        if re.search("_dropped_|_cut_|_without_|^neighbours", name):
            (logging.warning if number else logging.info)("%s: %d", name, number)
        elif name.startswith(corpus.FIELD_COUNT.format("")):
            logging.info("%s: %d", name, number)
    for name, value in manifest["statistics"].items():
        logging.info("%s: %s", name, value)
    _warn_of_text(manifest)
    _warn_of_whole_files(manifest)
    _warn_of_small_files(manifest)


def _warn_of_text(manifest):
    """Warn of a corpus whose pieces, sentences or words are unusual."""
    counts, statistics = manifest["counts"], manifest["statistics"]
    if statistics["unknown"] > MANY_UNKNOWN:
        logging.warning(
            "UNKNOWN PIECES: %.1f%% of the pieces are [UNK]: check the encoding of the text, "
            "--do_lower_case and --vocab_file",
            100 * statistics["unknown"],
        )
    if statistics.get("chunks_with_order", 1) < FEW_ORDERS:
        logging.warning(
            "SENTENCE ORDER: only %.0f%% of the chunks have an order to predict: the others are "
            "single sentences, or parts of one",
            100 * statistics["chunks_with_order"],
        )
    if counts["sentences"] < FEW_SENTENCES * counts["documents"]:
        size = sum(files.size(one["path"]) for one in manifest["inputs"])
        remedy = "a blank line ends a document, so remove blank lines between the sentences of one"
        if size > LONG_LINE * counts["sentences"]:
            remedy = "if each line is a whole article, give --split_sentences=True"
        logging.warning(
            "SHORT DOCUMENTS: %d documents have %d sentences: %s",
            counts["documents"],
            counts["sentences"],
            remedy,
        )
    share = statistics["words_per_piece"]
    if share > MANY_SINGLE and not manifest["segmenter"].startswith("none"):
        logging.warning(
            "SINGLE CHARACTERS: %.0f%% of the pieces are words by themselves, so no whole words "
            "are masked: if the text has blanks between its characters, remove them",
            100 * share,
        )


def _warn_of_whole_files(manifest):
    """Warn if no file has a blank line: each line may be an article instead of a sentence."""
    counts, num_files = manifest["counts"], len(manifest["inputs"])
    documents = counts["documents"] - counts["documents_cut_as_too_long"]
    is_suspect = documents == 1 or counts["sentences"] > 100 * documents
    if manifest["flags"]["input_format"] == "text" and documents <= num_files and is_suspect:
        text = (
            "documents: only %d in %d files, since a blank line ends a document. If every line is "
            "a whole article, run sed G FILE > NEW_FILE, and give --split_sentences=True"
        )
        logging.warning(text, documents, num_files)


def _warn_of_small_files(manifest):
    """Warn of compact records of many small files: a row never holds the text of two files."""
    counts, num_files = manifest["counts"], len(manifest["inputs"])
    is_small = num_files > 1 and counts["documents"] <= 2 * num_files
    if "rows" in counts and is_small and manifest["statistics"]["fill"] < LOW_FILL:
        logging.warning(
            "SMALL FILES: %.0f%% of the positions of the rows are used, because a row holds the "
            "text of one file: join the files, with a blank line between them: "
            "for f in FILES; do cat $f; echo; done > NEW_FILE",
            100 * manifest["statistics"]["fill"],
        )


if __name__ == "__main__":
    cli.run(main, define_flags)
