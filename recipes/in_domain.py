"""Makes a corpus of the train texts of tasks.

    python recipes/in_domain.py --tasks=lcqmc_pair:data/lcqmc,tnews:data/tnews --output_file=out.txt

The script reads the train file of every task, without labels, and leaves out every example with a
text that is also in the task's dev or test file. The script splits a text into sentences, one a
line, and puts the two texts of a pair one after the other. A blank line ends a document after the
first example with which the document has eight sentences or more.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import cli, files
from common.errors import UserError
from finetuning_data import tasks
from pretraining_data import corpus

SENTENCES = corpus.Format(split_sentences=True)
DOCUMENT_LINES = 8


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.list("tasks", None, "Tasks and their folders, TASK:FOLDER,...")
    define.string("output_file", None, "The corpus to write.")


def main(args):
    """Write the corpus and print how many examples of each task are in it."""
    if not args.tasks or not args.output_file:
        raise UserError("give --tasks=TASK:FOLDER,... and --output_file")
    counts, lines = {}, []
    for named in args.tasks:
        name, _, folder = named.partition(":")
        if not folder:
            raise UserError("--tasks: {} has no folder: give TASK:FOLDER".format(named))
        examples = unseen_examples(tasks.get_task(name), folder)
        counts[name] = len(examples)
        lines += documents(examples)
    files.write_text(args.output_file, "".join(lines))
    print(json.dumps(counts))


def unseen_examples(task, folder):
    """Return the train examples without those that share a text with the dev or test file."""
    seen = set()
    for split in ("dev", "test"):
        if has_file(task, folder, split):
            held_out = tasks.load_examples(task, folder, split)
            seen.update(text for example in held_out for text in texts(example))
    train = tasks.load_examples(task, folder, "train")
    return [example for example in train if not seen.intersection(texts(example))]


def has_file(task, folder, split):
    """Return whether a folder has the file of a split; not every task has a dev and a test file."""
    try:
        return bool(tasks.find_file(task, folder, split))
    except UserError:
        return False


def texts(example):
    """Return the texts of an example, one or two."""
    return [text for text in (example.text_a, example.text_b) if text]


def documents(examples):
    """Yield the sentences of examples as lines; a blank line ends a document.

    A document ends after the first example with which it has DOCUMENT_LINES lines or more.
    """
    size = 0
    for example in examples:
        for text in texts(example):
            for sentence in corpus.sentences_of(text, SENTENCES):
                yield sentence + "\n"
                size += 1
        if size >= DOCUMENT_LINES:
            yield "\n"
            size = 0
    yield "\n"


if __name__ == "__main__":
    cli.run(main, define_flags)
