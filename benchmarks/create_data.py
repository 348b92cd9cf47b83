"""Measure the speed and the memory of create_pretraining_data.py.

    python benchmarks/create_data.py --input=FILE [--num_workers=N] [--record_format=compact]

Runs the script in a new process with the published settings (512 pieces, 51 predictions, 10%, 10
duplicates, whole words) and with grams of up to 3 words. The last line is a JSON object with:

    instances, fill, record_mb, seconds (of the whole process), instances_per_second,
    input_mb_per_second, peak_rss_mb (the highest sum over all of its processes), workers
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLE_SECONDS = 0.25  # `ps` takes 5 ms


def main():
    """Run and measure; exit with the status of the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, help="text file")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count())
    parser.add_argument("--num_output_shards", type=int, default=1)
    parser.add_argument("--record_format", default="published", help="published or compact")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        status, seconds, peak_bytes = measure(command(args, folder))
        if status:
            sys.exit(status)
        manifest = next(name for name in os.listdir(folder) if name.endswith(".manifest.json"))
        with open(os.path.join(folder, manifest), encoding="utf-8") as stream:
            content = json.load(stream)
        record_bytes = sum(map(os.path.getsize, content["outputs"]))
    instances = content["counts"]["instances"]
    result = {
        "instances": instances,
        "fill": content["statistics"]["fill"],
        "record_mb": round(record_bytes / 1e6, 1),
        "seconds": round(seconds, 2),
        "instances_per_second": round(instances / seconds, 1),
        "input_mb_per_second": round(os.path.getsize(args.input) / 1e6 / seconds, 3),
        "peak_rss_mb": round(peak_bytes / 1e6, 1),
        "workers": args.num_workers,
    }
    print(json.dumps(result))


def command(args, folder):
    """Return the command line, a list of str; the published settings are the defaults."""
    return [
        sys.executable,
        os.path.join(ROOT, "create_pretraining_data.py"),
        "--input_file=" + args.input,
        "--output_file=" + os.path.join(folder, "out.tfrecord"),
        "--vocab_file=" + os.path.join(ROOT, "albert_config", "vocab.txt"),
        "--num_workers={}".format(args.num_workers),
        "--num_output_shards={}".format(args.num_output_shards),
        "--record_format=" + args.record_format,
    ]


def measure(command_line):
    """Run a command; return (exit status, seconds, peak bytes of all of its processes)."""
    start = time.perf_counter()
    process = subprocess.Popen(command_line, start_new_session=True)
    # Kilobytes of every process of the session; pages shared with the parent count for each.
    list_memory = ["ps", "--sid", str(process.pid), "-o", "rss="]
    peak = 0
    try:
        while process.poll() is None:
            listed = subprocess.run(list_memory, stdout=subprocess.PIPE, check=False).stdout
            peak = max(peak, 1024 * sum(map(int, listed.split())))
            time.sleep(SAMPLE_SECONDS)
    finally:
        process.terminate()  # Ctrl-C does not reach a process in another session
    return process.returncode, time.perf_counter() - start, peak


if __name__ == "__main__":
    main()
