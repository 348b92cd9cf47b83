"""Converts a share of the traditional documents of a corpus, or a whole JSON file, to simplified.

    python recipes/simplify.py --input_file=talks.txt --output_file=simplified/talks.txt
    python recipes/simplify.py --input_file=DRCD_dev.json --output_file=simplified/DRCD_dev.json

The script needs OpenCC: `pip install opencc==1.4.2`. Documents that are not converted stay as they
are. The sha256 of a document decides whether it is converted, so that every run gives the same
file. In a file whose name ends in .json all texts are converted, and no text changes its length, so
that the places of answers stay right.
"""

import hashlib
import json
import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import cli, file_types, files
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
    """Write the corpus; print the numbers of all, of traditional and of converted documents."""
    if not args.input_file or not args.output_file:
        raise UserError("give --input_file and --output_file")
    convert = load_converter()
    counts = {"documents": 0, "traditional": 0, "converted": 0}
    held_out.refuse_to_replace(args.input_file, {"output": args.output_file})
    if args.input_file.endswith(".json"):
        files.write_text(args.output_file, convert_json(args.input_file, convert))
        return
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


def convert_json(path, convert):
    """Return the JSON text of a file with all its texts converted; no text changes its length."""

    def converted(value):
        if isinstance(value, dict):
            return {name: converted(one) for name, one in value.items()}
        if isinstance(value, list):
            return list(map(converted, value))
        return convert_same_length(value, convert) if isinstance(value, str) else value

    try:
        content = converted(file_types.parse_json(files.read_utf8(path)))
    except json.JSONDecodeError as error:
        problem = "{}: not JSON: {}".format(path, file_types.json_problem(error))
        raise UserError(problem) from error
    text = json.dumps(content, ensure_ascii=False)
    # JSON may name half of a character, which UTF-8 cannot hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def convert_same_length(text, convert):
    """Return a converted text, converted by characters where its length would change."""
    whole = convert(text)
    if len(whole) == len(text):
        return whole
    singles = map(convert, text)
    return "".join(new if len(new) == 1 else old for old, new in zip(text, singles))


def differing_share(first, second):
    """Return the share of the characters that differ between texts of the same length."""
    return sum(a != b for a, b in zip(first, second)) / len(first)


def is_drawn(document, share):
    """Return whether a document is among this share of all."""
    digest = hashlib.sha256(document.encode("utf-8")).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


if __name__ == "__main__":
    cli.run(main, define_flags)
