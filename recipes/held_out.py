"""Holds out a part of a corpus or of JSON lines, or prints the unigram entropy of a text.

    python recipes/held_out.py --corpus=news.txt --megabytes=10 --share=0.05 --output_dir=out
    python recipes/held_out.py --json_lines=train.10k.json --key=sentence1 --output_dir=out
    python recipes/held_out.py --entropy_of=out/held_out.txt --vocab_file=albert_config/vocab.txt

The first writes `train.txt` and `held_out.txt`: whole documents, every twentieth held out. The
second writes `train.json` and `dev.json`: about every tenth value of a key is held out, with all
rows that have it. The third prints one JSON object: the unigram entropy of the text's pieces in
nats, which is the least loss that a model without any context can reach on it.
"""

import collections
import json
import math
import os
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import cli, files
from common.errors import UserError


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("corpus", None, "Text to split, a blank line between documents.")
    define.float("megabytes", 10, "How much of the corpus to take.")
    define.float("share", 0.05, "Share of the documents held out.")
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
    """Write every (1 / share)-th document to held_out.txt and the others to train.txt.

    Returns:
        dict of the numbers of documents.
    """
    every = int(round(1 / share))
    os.makedirs(output_dir, exist_ok=True)
    counts = {"train": 0, "held_out": 0}
    with open(os.path.join(output_dir, "train.txt"), "w", encoding="utf-8") as train, open(
        os.path.join(output_dir, "held_out.txt"), "w", encoding="utf-8"
    ) as held_out:
        for index, document in enumerate(documents(corpus, megabytes * 1e6)):
            name, stream = ("held_out", held_out) if index % every == 0 else ("train", train)
            stream.write(document + "\n")
            counts[name] += 1
    return counts


def split_rows(json_lines, key, output_dir):
    """Write rows to dev.json if 10 divides the checksum of their key's value, else to train.json.

    Returns:
        dict of the numbers of rows.
    """
    parts = {"train": [], "dev": []}
    with open(json_lines, encoding="utf-8", newline="\n") as stream:
        for line in stream:
            is_held_out = zlib.crc32(json.loads(line)[key].encode("utf-8")) % 10 == 0
            parts["dev" if is_held_out else "train"].append(line)
    os.makedirs(output_dir, exist_ok=True)
    for name, lines in parts.items():
        files.write_text(os.path.join(output_dir, name + ".json"), "".join(lines))
    return {name: len(lines) for name, lines in parts.items()}


def documents(path, limit):
    """Yield documents, their lines with line ends, until `limit` bytes were read."""
    lines, size = [], 0
    with open(path, encoding="utf-8", newline="\n") as stream:
        for line in stream:
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
    """Return the entropy in nats of the frequencies of a text's pieces, and numbers of pieces."""
    import tokenization

    tokenizer = tokenization.FullTokenizer(vocab_file)
    counts = collections.Counter()
    with open(path, encoding="utf-8", newline="\n") as stream:
        for line in stream:
            counts.update(tokenizer.tokenize(line))
    total = sum(counts.values())
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    return {"unigram_entropy_nats": entropy, "pieces": total, "different_pieces": len(counts)}


if __name__ == "__main__":
    cli.run(main, define_flags)
