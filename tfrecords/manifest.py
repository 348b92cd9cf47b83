"""The manifest of records: a JSON file beside them that says how they were made."""

import os

from common import files
from common.errors import UserError
from common.files import MANIFEST_SUFFIX


def write_manifest(path, manifest):
    """Write the manifest of records, a dict, beside `path`, their first file."""
    files.write_json(path + MANIFEST_SUFFIX, manifest)


def remove_manifest(records_file):
    """Remove the manifest beside a records file, if there is one."""
    files.remove(records_file + MANIFEST_SUFFIX)


def read_manifest(records_file):
    """Return the manifest beside a records file as a dict, or None where there is none.

    Raises:
        UserError: names a manifest that is not a JSON object.
    """
    path = records_file + MANIFEST_SUFFIX
    return files.read_json(path) if files.exists(path) else None


def find_manifests(records_files):
    """Return a dict from each path to its manifest, a dict, or None where there is none.

    The manifest of several files that were made together lies beside the first of them, and names
    all of them.
    """
    named, own = {}, {}  # (folder, name of the file) -> manifest
    for folder in sorted({os.path.dirname(path) for path in records_files}):
        # The folder's name may have the characters of a pattern.
        paths = sorted(files.list_files(folder or "."))
        for path in (path for path in paths if path.endswith(MANIFEST_SUFFIX)):
            content = own[folder, os.path.basename(path)[: -len(MANIFEST_SUFFIX)]] = (
                files.read_json(path)
            )
            for name in content.get("outputs", []):
                named[folder, os.path.basename(name)] = content
    named.update(own)
    return {path: named.get(os.path.split(path)) for path in records_files}


def check_manifests(records_files, max_seq_length, max_predictions_per_seq, vocab_size):
    """Compare the manifests of records with the settings of the training run.

    Args:
        records_files: list of paths; files without a manifest are not compared.
        max_seq_length, max_predictions_per_seq, vocab_size: int, the settings of the run.

    Returns:
        List of str, warnings that name both values.

    Raises:
        UserError: names both values where the run cannot use the records.
    """
    wanted = {
        "max_seq_length": max_seq_length,
        "max_predictions_per_seq": max_predictions_per_seq,
        "vocab_size": vocab_size,
    }
    warnings, vocabularies = [], {}
    names = set(map(os.path.basename, records_files))
    for path, manifest in first_of_each(find_manifests(records_files)):
        vocabularies.setdefault(manifest.get("vocab_sha256"), path)
        stored = dict(manifest.get("flags", {}), vocab_size=manifest.get("vocab_size"))
        if manifest.get("compact"):  # the run masks them, as its own flags say
            stored.pop("max_predictions_per_seq", None)
        for name, value in sorted(wanted.items()):
            warnings += _compare(path, name, stored.get(name), value)
        missing = {os.path.basename(name) for name in manifest.get("outputs", [])} - names
        if missing and len(manifest["outputs"]) > 1:
            warnings.append(
                "{} is one of {} files that were made together; {} are not read".format(
                    path, len(manifest["outputs"]), len(missing)
                )
            )
    if len(vocabularies) > 1:
        raise UserError(
            "{} were made with different vocabularies: use records of one".format(
                " and ".join(sorted(vocabularies.values())[:2])
            )
        )
    return warnings


def first_of_each(manifests):
    """Yield (path, manifest) of the first file of each manifest that `find_manifests` found."""
    seen = []
    for path, content in manifests.items():
        if content is not None and not any(content is other for other in seen):
            seen.append(content)
            yield path, content


def _compare(path, name, stored, wanted):
    if stored is None or stored == wanted:
        return []
    text = "{} was made with {}={}, here it is {}".format(path, name, stored, wanted)
    if stored > wanted:
        setting = "vocab_size of the config file" if name == "vocab_size" else "--" + name
        raise UserError("{}: set {} to {}, or make the records again".format(text, setting, stored))
    # `reader.check_records` warns of shorter records, which are padded.
    return [text] if name == "vocab_size" else []
