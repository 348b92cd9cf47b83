"""Writing files that are whole or not there at all."""

import tensorflow.compat.v1 as tf

from pipeline.errors import UserError

TEMPORARY_SUFFIX = ".tmp"


def make_parent(path):
    """Make the folder that `path` lies in, where it does not exist."""
    folder = path.rpartition("/")[0]
    if folder:
        tf.io.gfile.makedirs(folder)


def write_text(path, text):
    """Write a text file, UTF-8, by rename.

    Args:
        path: str, local or any other that tf.io.gfile knows.
        text: str.

    Raises:
        UserError: where the file cannot be written.
    """
    try:
        make_parent(path)
        with tf.io.gfile.GFile(path + TEMPORARY_SUFFIX, "w") as stream:
            stream.write(text)
        tf.io.gfile.rename(path + TEMPORARY_SUFFIX, path, overwrite=True)
    except tf.errors.OpError as error:
        raise UserError("cannot write {}: {}".format(path, error.message)) from error
