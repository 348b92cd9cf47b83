"""Measure how fast compact records become batches: decoding, segments, swaps and masks.

    python benchmarks/input_pipeline.py --input=RECORDS [--batch_size=64] [--seconds=10]

RECORDS is a file that create_pretraining_data.py --record_format=compact made. One thread works,
and the records are in memory. The last line is a JSON object with:

    rows_per_second and pieces_per_second, both of one core, batch_size, max_seq_length
"""

import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import tensorflow_settings

tensorflow_settings.set_environment()

import tensorflow.compat.v1 as tf

from masking import graph, mask_settings
from tfrecords import compact, manifest, wire

NUM_RECORDS = 4096


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, help="compact records")
    parser.add_argument("--batch_size", type=int, default=graph.ROWS_AT_ONCE)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    length = manifest.read_manifest(args.input)["flags"]["max_seq_length"]
    given = dict.fromkeys(mask_settings.FLAGS)
    config, vocabulary, limits, _ = mask_settings.read_settings([args.input], given, length)
    masking = graph.Masking(config, vocabulary, limits, seed=1)
    records = first_records(args.input)
    pieces = sum(len(compact.parse(record, limits).pieces) for record in records) / len(records)
    rate = measure(records, masking, args)
    result = {
        "rows_per_second": round(rate, 1),
        "pieces_per_second": round(rate * pieces),
        "batch_size": args.batch_size,
        "max_seq_length": length,
    }
    print(json.dumps(result))


def first_records(path):
    """Return up to NUM_RECORDS records, a list of bytes."""
    with open(path, "rb") as stream:
        return [frame.record for frame, _ in zip(wire.read_frames(stream), range(NUM_RECORDS))]


def measure(records, masking, args):
    """Return the rows that one thread masks in a second of its own time."""
    one_thread = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf.Session(config=one_thread) as session:
        numbers = tf.range(len(records), dtype=tf.int64)
        rows = tf.data.Dataset.from_tensor_slices((records, tf.zeros_like(numbers), numbers))
        batches = rows.cache().repeat().batch(args.batch_size, drop_remainder=True)
        batches = batches.map(
            lambda *batch: masking.parse(batch[0], batch[1], batch[2], args.batch_size)
        )
        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        options.threading.max_intra_op_parallelism = 1
        batch = tf.data.make_one_shot_iterator(batches.with_options(options)).get_next()
        run = session.make_callable(batch["input_ids"].op)
        for _ in range(max(2, len(records) // args.batch_size)):  # fills the cache
            run()
        number, begin, begin_of_work = 0, time.time(), time.process_time()
        while time.time() - begin < args.seconds:
            run()
            number += 1
        return number * args.batch_size / (time.process_time() - begin_of_work)


if __name__ == "__main__":
    main()
