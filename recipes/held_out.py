"""Holds out a part of a corpus or of JSON lines, or prints the unigram entropy of a text.

    python recipes/held_out.py --corpus=news.txt --megabytes=10 --share=0.05 --output_dir=out
    python recipes/held_out.py --json_lines=train.10k.json --key=sentence1 --output_dir=out
    python recipes/held_out.py --entropy_of=out/held_out.txt --vocab_file=albert_config/vocab.txt

The first command writes `train.txt` and `held_out.txt`: whole documents, every twentieth held out.
The second command writes `train.json` and `dev.json`: about every tenth value of a key is held out,
with all rows that have this value. The third command prints one JSON object: the unigram entropy of
the text's pieces in nats, which is the least loss that a model without any context can reach.
"""

import collections
import contextlib
import json
import math
import os
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import cli, file_types, files
from common.errors import UserError

HEAD_BYTES = 1 << 16  # bytes that are read of a file to see whether it is text


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("corpus", None, "Text to split, a blank line between documents.")
    define.float("megabytes", 10, "How much of the corpus to take.")
    define.validator("megabytes", lambda size: size > 0, "give a number above 0")
    define.float("share", 0.05, "Hold out every n-th document; n is 1 / share, rounded.")
    define.validator("share", lambda share: 0 < share <= 0.5, "give a number above 0, at most 0.5")
    define.string("json_lines", None, "JSON lines to split.")
    define.string("key", None, "Field of the JSON lines whose values are held out.")
    define.string("output_dir", None, "Folder for the two parts.")
    define.string("entropy_of", None, "Text whose unigram entropy to print.")
    define.string("vocab_file", "albert_config/vocab.txt", "The vocabulary.")


def main(args):
    """Split a corpus or print an entropy."""
    if args.entropy_of:
        print(json.dumps(unigram_entropy(args.entropy_of, args.vocab_file)))
    elif args.corpus and args.output_dir:
        print(json.dumps(split(args.corpus, args.megabytes, args.share, args.output_dir)))
    elif args.json_lines and args.key and args.output_dir:
        print(json.dumps(split_rows(args.json_lines, args.key, args.output_dir)))
    else:
        raise UserError(
            "give --corpus and --output_dir, --json_lines, --key and --output_dir, or --entropy_of"
        )


def split(corpus, megabytes, share, output_dir):
    """Write every n-th document to held_out.txt, the others to train.txt; n is 1 / share, rounded.

    Returns:
        dict of the numbers of documents.
    """
    every = int(round(1 / share))
    parts = {name: os.path.join(output_dir, name + ".txt") for name in ("train", "held_out")}
    refuse_to_replace(corpus, parts)
    counts = dict.fromkeys(parts, 0)
    with contextlib.ExitStack() as stack:
        streams = {name: stack.enter_context(files.WholeFile(parts[name])) for name in parts}
        for index, document in enumerate(documents(corpus, megabytes * 1e6)):
            name = "held_out" if index % every == 0 else "train"
            streams[name].write((document + "\n").encode("utf-8"))
            counts[name] += 1
        if not all(counts.values()):
            raise UserError(
                "{}: {} document(s), too few to hold some out: a blank line ends a document; "
                "sed G FILE > NEW_FILE puts one after each line".format(
                    corpus, sum(counts.values())
                )
            )
    return counts


def split_rows(json_lines, key, output_dir):
    """Write rows to dev.json if 10 divides the checksum of their key's value, else to train.json.

    Returns:
        dict of the numbers of rows.
    """
    parts = {name: os.path.join(output_dir, name + ".json") for name in ("train", "dev")}
    refuse_to_replace(json_lines, parts)
    rows = {name: [] for name in parts}
    for number, line in enumerate(lines_of(json_lines), 1):
        if line.strip():
            value = value_of(json_lines, number, line, key)
            is_held_out = zlib.crc32(value.encode("utf-8", "surrogatepass")) % 10 == 0
            rows["dev" if is_held_out else "train"].append(line)
    if not all(rows.values()):
        text = "{}: --key={} has too few different values to hold some of them out"
        raise UserError(text.format(json_lines, key))
    for name, path in parts.items():
        files.write_text(path, "".join(rows[name]))
    return {name: len(lines) for name, lines in rows.items()}


def value_of(path, number, line, key):
    """Return the text in a field of a row of JSON; raises `UserError` where there is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise UserError("{}, row {}: not a JSON object: write one a line".format(path, number))
    texts = [name for name, value in row.items() if isinstance(value, str)]
    if key not in texts:
        text = "{}, row {}: no text in the field --key={}: give one of {}"
        raise UserError(text.format(path, number, key, ", ".join(texts)))
    return row[key]


def refuse_to_replace(source, parts):
    """Raise `UserError` where a part would replace the file that is split."""
    for path in parts.values():
        if os.path.realpath(path) == os.path.realpath(source):
            text = "--output_dir={}: {} would be replaced by a part of it: give another folder"
            raise UserError(text.format(os.path.dirname(path), source))


def lines_of(path):
    """Yield the lines of a text with their ends; raises `UserError` if it is not UTF-8 text."""
    if not os.path.isfile(path):
        what = "it is a folder" if os.path.isdir(path) else "it does not exist"
        raise UserError("cannot read {}: {}".format(path, what))
    with open(path, "rb") as stream:
        refusal = file_types.refusal(path, stream.read(HEAD_BYTES))
        if refusal:
            raise UserError(refusal)
        stream.seek(0)
        is_utf8 = False
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                mend = file_types.mend_utf8(line, is_utf8)
                problem = "{}, row {}: not UTF-8 text; {}".format(path, number, mend)
                raise UserError(problem) from None
            is_utf8 = is_utf8 or file_types.holds_wide(text)
            yield text


def documents(path, limit):
    """Yield each document as a str with its line ends, until `limit` bytes were read."""
    lines, size = [], 0
    for line in lines_of(path):
        size += len(line.encode("utf-8"))
        if line.strip():
            lines.append(line)
        elif lines:
            yield "".join(lines)
            lines = []
            if size >= limit:
                return
    if lines:
        yield "".join(lines)


def unigram_entropy(path, vocab_file):
    """Return a dict of two counts and the entropy of a text's pieces, from their frequencies."""
    import tokenization

    tokenizer = tokenization.FullTokenizer(vocab_file)
    counts = collections.Counter()
    for line in lines_of(path):
        counts.update(tokenizer.tokenize(line))
    total = sum(counts.values())
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    return {"unigram_entropy_nats": entropy, "pieces": total, "different_pieces": len(counts)}


if __name__ == "__main__":
    cli.run(main, define_flags)
