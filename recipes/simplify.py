"""Writes a share of the traditional documents of a corpus in simplified characters.

    python recipes/simplify.py --input_file=talks.txt --output_file=simplified/talks.txt

It needs OpenCC: `pip install opencc==1.4.2`. Other documents stay as they are. The sha256 of a
document decides whether it is converted, so that every run gives the same file.
"""

import hashlib
import json
import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import cli, files
from common.errors import UserError
from recipes import held_out

# A text is traditional if the conversion changes a larger share of its characters than this. The
# conversion also changes a few characters of simplified text, which both scripts have.
CHANGED_SHARE = 0.02


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string("input_file", None, "One sentence a line, a blank line between documents.")
    define.string("output_file", None, "The file to write.")
    define.float(
        "share", 0.5, "Part of the traditional documents to convert.", lower_bound=0, upper_bound=1
    )


def main(args):
    """Write the corpus and print how many documents it has, are traditional and were converted."""
    if not args.input_file or not args.output_file:
        raise UserError("give --input_file and --output_file")
    convert = load_converter()
    counts = {"documents": 0, "traditional": 0, "converted": 0}
    held_out.refuse_to_replace(args.input_file, {"output": args.output_file})
    with files.WholeFile(args.output_file) as whole:
        for document in held_out.documents(args.input_file, math.inf):
            simplified = convert(document)
            is_traditional = differing_share(document, simplified) > CHANGED_SHARE
            is_converted = is_traditional and is_drawn(document, args.share)
            whole.write((simplified if is_converted else document).encode("utf-8") + b"\n")
            counts["documents"] += 1
            counts["traditional"] += is_traditional
            counts["converted"] += is_converted
    print(json.dumps(counts))


def load_converter():
    """Return the function of OpenCC that writes a text in simplified characters."""
    try:
        import opencc
    except ImportError as error:
        raise UserError(
            "OpenCC is missing ({}): pip install opencc==1.4.2".format(error)
        ) from error
    return opencc.OpenCC("t2s").convert


def differing_share(first, second):
    """Return the share of the characters that differ between texts of the same length."""
    return sum(a != b for a, b in zip(first, second)) / len(first)


def is_drawn(document, share):
    """Return whether a document is among this share of all."""
    digest = hashlib.sha256(document.encode("utf-8")).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


if __name__ == "__main__":
    cli.run(main, define_flags)
