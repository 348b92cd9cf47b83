"""Write vocab.txt, the 21,128 pieces of BERT-Base Chinese that every published Chinese ALBERT uses.

    pip install blingfire==0.1.8
    python albert_config/make_vocab.py [OUTPUT]

The PyPI package blingfire (MIT) contains the same vocabulary in `bert_chinese.i2w`, a table from
ids to words that only its decoder reads. The decoder puts a space before a piece that starts a
word, and none before any other piece, when a known piece precedes it.
"""

import hashlib
import os
import sys

import blingfire
import numpy as np

VOCAB_SIZE = 21128
SHA256 = "45bbac6b341c319adc98a532532882e91a9cefc0329aa57bac9ae761c27b291c"
KNOWN_ID = 872  # a Chinese character
# The decoder strips U+2028 (line separator), so that these two pieces come out empty.
STRIPPED = {343: "\u2028", 13502: "##\u2028"}
MAX_BYTES = 1000  # of one decoded pair; the longest piece has 45


def read_pieces():
    """Return the pieces in the order of their ids, a list of 21,128 str."""
    folder = os.path.dirname(blingfire.__file__)
    model = blingfire.load_model(os.path.join(folder, "bert_chinese.i2w"))

    def decode(*ids):
        return blingfire.ids_to_text(model, np.array(ids, np.int32), False, MAX_BYTES)

    prefix = len(decode(KNOWN_ID))
    pieces = []
    for i in range(VOCAB_SIZE):
        text = decode(KNOWN_ID, i)[prefix:]
        pieces.append(STRIPPED.get(i) or (text[1:] if text.startswith(" ") else "##" + text))
    blingfire.free_model(model)
    return pieces


def main(path):
    """Write the vocabulary to `path`, one piece a line in UTF-8, if it is the published one."""
    content = "".join(piece + "\n" for piece in read_pieces()).encode("utf-8")
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        sys.exit("this is not the published vocabulary: sha256 {}, not {}".format(digest, SHA256))
    with open(path, "wb") as stream:
        stream.write(content)


if __name__ == "__main__":
    default = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vocab.txt")
    main(sys.argv[1] if len(sys.argv) > 1 else default)
