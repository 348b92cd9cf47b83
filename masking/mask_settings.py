"""How to mask: the flags, and what a manifest keeps for the run that masks compact records."""

import numpy as np
from absl import logging

from common import cli, files
from common.errors import UserError
from masking import reference
from tfrecords import compact, manifest

# The flags that decide on masks. The run that trains on compact records may change them.
FLAGS = ("masked_lm_prob", "max_predictions_per_seq", "ngram", "favor_ngram", "replace_spans")


def define_flags(flag_values, of_records):
    """Define FLAGS, without max_predictions_per_seq.

    Args:
        flag_values: absl's `FlagValues`.
        of_records: bool, whether the manifest of compact records gives the defaults.
    """
    define = cli.flag_definer(flag_values)

    def default(value, text):
        if of_records:
            text += " Only for compact records. Default: the value that their manifest names."
            return None, text
        return value, text

    longest = reference.MAX_SEQ_LENGTH
    text = "Share of the pieces to mask, but at least one word."
    define.float("masked_lm_prob", *default(0.1, text), lower_bound=0.0, upper_bound=1.0)
    define.validator("masked_lm_prob", lambda p: p == p, "not a number")  # the bounds accept "nan"
    text = "Largest number of words in a masked gram; 1 masks single words."
    define.integer("ngram", *default(3, text), lower_bound=1, upper_bound=longest)
    weights = sorted(reference.GRAM_WEIGHTS)
    text = "Which grams are likelier: shorter (as 1/n for n words), longer, or none (uniform)."
    value, text = default("shorter", text)
    define.enum("favor_ngram", value, weights, text)
    text = "Draw 80/10/10 once for each gram, not for each piece."
    define.bool("replace_spans", *default(False, text))


def masking_config(values, **fields):
    """Return the `MaskingConfig` of the values of FLAGS, a dict, and of further fields."""
    return reference.MaskingConfig(
        max_predictions_per_seq=values["max_predictions_per_seq"],
        masked_lm_prob=values["masked_lm_prob"],
        gram_probabilities=reference.gram_probabilities(values["ngram"], values["favor_ngram"]),
        replace_spans=values["replace_spans"],
        **fields,
    )


def vocabulary_entry(vocabulary):
    """Return what a run needs of a `Vocabulary`, a dict for the manifest of compact records.

    There are many ids of random replacements, so they are stored as ranges [first, last].
    """
    ids = np.sort(vocabulary.replacements)
    breaks = np.flatnonzero(np.diff(ids) > 1)
    first, last = ids[np.append(0, breaks + 1)], ids[np.append(breaks, len(ids) - 1)]
    return {
        "version": compact.VERSION,
        "cls_id": vocabulary.cls_id,
        "sep_id": vocabulary.sep_id,
        "mask_id": vocabulary.mask_id,
        "replacements": np.stack([first, last], axis=1).tolist(),
    }


def _vocabulary_of(entry):
    ranges = [np.arange(first, last + 1) for first, last in entry["replacements"]]
    return reference.Vocabulary(
        cls_id=entry["cls_id"],
        sep_id=entry["sep_id"],
        mask_id=entry["mask_id"],
        unk_id=None,
        continues=None,
        replacements=np.concatenate(ranges),
        later_labels=None,
    )


def read_settings(records_files, given, max_seq_length):
    """Read from manifests how to mask compact records.

    Args:
        records_files: list of paths of compact records.
        given: dict of the values of FLAGS, None where the manifest decides.
        max_seq_length: int, of the run.

    Returns:
        (`MaskingConfig`, `Vocabulary`, `compact.Limits` of the records, float), the last is how
        many chunks a row has on average.

    Raises:
        UserError: for a missing manifest, or manifests with different defaults.
    """
    manifests = manifest.find_manifests(records_files)
    for path, content in manifests.items():
        if not (content and content.get("compact")):
            raise UserError(
                "{} holds compact records, and no {} beside it names it and says how to mask them: "
                "copy that file too, and keep the names that create_pretraining_data.py gave; or "
                "make the records again".format(path, files.MANIFEST_SUFFIX)
            )
    try:
        return _read_settings(manifests, given, max_seq_length)
    except UserError:  # a `ValueError`, too
        raise
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            "a {} of {} is not as create_pretraining_data.py wrote it ({} {}): make the records "
            "again".format(
                files.MANIFEST_SUFFIX, ", ".join(records_files), type(error).__name__, error
            )
        ) from error


def _read_settings(manifests, given, max_seq_length):
    manifests = dict(manifest.first_of_each(manifests))
    values = {
        name: _common_value(name, manifests) if given[name] is None else given[name]
        for name in FLAGS
    }
    _check_values(values)
    contents = list(manifests.values())
    chunks = max(content["flags"]["max_chunks_per_row"] for content in contents)
    longest = max(content["flags"]["max_seq_length"] for content in contents)
    if longest > max_seq_length:
        text = "{}: max_seq_length is {}, the records were made with {}: set --max_seq_length to {}"
        path = next(iter(manifests))
        raise UserError(text.format(path, max_seq_length, longest, longest))
    config = masking_config(
        values, max_seq_length=max_seq_length, short_seq_prob=0.0, max_chunks_per_row=chunks
    )
    _warn_of_lengths(config, longest)
    limits = compact.Limits(longest, chunks, contents[0]["vocab_size"])
    num_chunks, num_rows = (
        sum(content["counts"][name] for content in contents) for name in ("instances", "rows")
    )
    return config, _vocabulary_of(contents[0]["compact"]), limits, num_chunks / num_rows


def _check_values(values):
    """Raise a `ValueError` for values that no flag could have."""
    is_valid = (
        0 <= values["masked_lm_prob"] <= 1
        and values["ngram"] >= 1
        and values["max_predictions_per_seq"] >= 1
        and values["favor_ngram"] in reference.GRAM_WEIGHTS
    )
    if not is_valid:
        raise ValueError(values)


def _warn_of_lengths(config, longest):
    if longest < config.max_seq_length:
        text = "the rows have at most %d positions; they are padded to --max_seq_length=%d"
        logging.warning(text, longest, config.max_seq_length)
    wanted = int(config.masked_lm_prob * longest)
    if wanted > config.max_predictions_per_seq:
        text = (
            "masked_lm_prob asks for %d pieces of a row, --max_predictions_per_seq allows %d: all "
            "chunks get fewer masks"
        )
        logging.warning(text, wanted, config.max_predictions_per_seq)


def _common_value(name, manifests):
    values = {content["flags"][name]: path for path, content in manifests.items()}
    if len(values) > 1:
        (value, path), (other, other_path) = sorted(values.items(), key=str)[:2]
        raise UserError(
            "{} was made with {}={}, and {} with {}: give --{}".format(
                path, name, value, other_path, other, name
            )
        )
    return next(iter(values))
