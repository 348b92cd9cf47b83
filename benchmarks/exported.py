"""Measure the exports of a fine-tuned model: size of the file, accuracy, latency on one core.

    python benchmarks/exported.py --model_dir=OUT --data_dir=LCQMC [--max_examples=2000]

Each format is written to a temporary folder. The accuracy is measured on the dev set of the task.
The latency is the time of one example, from ids to probabilities, on one core; the formats take
turns. The last line is a JSON object: name of the format to its figures.
"""

import argparse
import json
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common import tensorflow_settings

tensorflow_settings.set_environment()

import numpy as np

import export_model
from common import text_table
from finetuning_data import tasks
from serving import export, predictor, samples, saved_model, single_file

EXPORTS = (
    export.Options("saved_model", raw_text=False),
    export.Options("onnx"),
    export.Options("tflite", "float32"),
    export.Options("tflite", "float16"),
    export.Options("tflite", "int8"),
)
BATCH_SIZE = 64
WARM_UP = 20


def main():
    """Export, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model_dir", required=True, help="--output_dir of a fine-tuning run")
    parser.add_argument("--data_dir", required=True, help="folder of the task, with a dev file")
    parser.add_argument("--max_examples", type=int, default=10000, help="of the dev set")
    parser.add_argument("--turns", type=int, default=300, help="examples that are timed")
    args = parser.parse_args()
    # The process is pinned before a runtime starts its threads, so that all threads share one core.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    model = predictor.Predictor(args.model_dir)
    examples = tasks.load_examples(model.task, args.data_dir, "dev")[: args.max_examples]
    figures, functions = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for options in EXPORTS:
            name = "{} {}".format(options.format, options.quantization)
            path = export.prepare(folder, options)
            differences = export.write(model, path, options)
            functions[name] = load(path, options)
            figures[name] = {
                "mb": export_model.size_of(path) / 1e6,
                "largest_difference": max(differences.values()),
                "accuracy": accuracy(model, functions[name], examples),
            }
        for name, times in latencies(model, functions, examples[: args.turns]).items():
            p50, p95 = np.percentile(times, (50, 95)) * 1e3
            figures[name].update(p50_ms=float(p50), p95_ms=float(p95))
    show(figures, len(examples))


def load(path, options):
    """Return the function of an export: dict of arrays to dict with `probabilities`."""
    if options.format == "saved_model":
        return saved_model.load_saved_model(path)[1]["classify"]
    loaders = {"onnx": single_file.load_onnx, "tflite": single_file.load_tflite}
    return loaders[options.format](path, num_threads=1)


def feeds_of(model, examples):
    """Return the inputs of a batch of examples."""
    rows = [(example.text_a, example.text_b) for example in examples]
    return samples.id_feeds(model, "classify", [row[:1] if row[1] is None else row for row in rows])


def accuracy(model, function, examples):
    """Return the share of examples whose label is predicted."""
    correct = 0
    ordered = sorted(examples, key=lambda e: len(e.text_a) + len(e.text_b or ""))
    for begin in range(0, len(ordered), BATCH_SIZE):
        batch = ordered[begin : begin + BATCH_SIZE]
        best = function(feeds_of(model, batch))["probabilities"].argmax(axis=1)
        correct += sum(model.task.labels[i] == e.label for i, e in zip(best, batch))
    return correct / len(examples)


def latencies(model, functions, examples):
    """Return the seconds of one example after another: dict of name to list."""
    seconds = {name: [] for name in functions}
    for turn, example in enumerate(examples[:WARM_UP] + examples):
        feeds = feeds_of(model, [example])
        for name, function in functions.items():
            begin = time.perf_counter()
            function(feeds)
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def show(figures, num_examples):
    """Print the table and the JSON line."""
    rows = [["format", "MB", "accuracy", "largest difference", "p50 ms", "p95 ms"]]
    for name, row in figures.items():
        values = [name, "{:.1f}".format(row["mb"]), row["accuracy"]]
        values.append("{:.1g}".format(row["largest_difference"]))
        rows.append(values + ["{:.2f}".format(row[key]) for key in ("p50_ms", "p95_ms")])
    print("accuracy on {} examples".format(num_examples))
    print(text_table.text_table(rows), end="")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
