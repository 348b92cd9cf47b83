"""Measure the speed and the memory of create_pretraining_data.py.

    python benchmarks/create_data.py --input=FILE [--num_workers=N]

Runs the script in a new process with the published settings (512 pieces, 51 predictions, 10%, 10
duplicates, whole words) and with grams of up to 3 words. The last line is a JSON object with:

    instances, seconds (of the whole process), instances_per_second, input_mb_per_second,
    peak_rss_mb (the highest sum over all of its processes), workers
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SAMPLE_SECONDS = 0.05


def main():
    """Run and measure; exit with the status of the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", required=True, help="text file")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count())
    parser.add_argument("--num_output_shards", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        status, seconds, peak_bytes = measure(command(args, folder))
        if status:
            sys.exit(status)
        manifest = next(name for name in os.listdir(folder) if name.endswith(".manifest.json"))
        with open(os.path.join(folder, manifest), encoding="utf-8") as stream:
            instances = json.load(stream)["counts"]["instances"]
    result = {
        "instances": instances,
        "seconds": round(seconds, 2),
        "instances_per_second": round(instances / seconds, 1),
        "input_mb_per_second": round(os.path.getsize(args.input) / 1e6 / seconds, 3),
        "peak_rss_mb": round(peak_bytes / 1e6, 1),
        "workers": args.num_workers,
    }
    print(json.dumps(result))


def command(args, folder):
    """Return the command line, a list of str."""
    flags = {
        "input_file": args.input,
        "output_file": os.path.join(folder, "out.tfrecord"),
        "vocab_file": os.path.join(ROOT, "albert_config", "vocab.txt"),
        "max_seq_length": 512,
        "max_predictions_per_seq": 51,
        "masked_lm_prob": 0.10,
        "dupe_factor": 10,
        "do_whole_word_mask": True,
        "ngram": 3,
        "num_workers": args.num_workers,
        "num_output_shards": args.num_output_shards,
    }
    script = os.path.join(ROOT, "create_pretraining_data.py")
    return [sys.executable, script] + ["--{}={}".format(*item) for item in flags.items()]


def measure(command_line):
    """Run a command; return (exit status, seconds, peak bytes of all of its processes)."""
    start = time.perf_counter()
    process = subprocess.Popen(command_line)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(resident_bytes, family(process.pid))))
        time.sleep(SAMPLE_SECONDS)
    return process.returncode, time.perf_counter() - start, peak


def family(pid):
    """Return the ids of a process and of all its descendants (Linux)."""
    pids = [pid]
    for parent in pids:
        try:
            with open("/proc/{0}/task/{0}/children".format(parent)) as stream:
                pids += map(int, stream.read().split())
        except OSError:  # the process has ended
            continue
    return pids


def resident_bytes(pid):
    """Return the memory of a process, including pages shared with its parent."""
    try:
        with open("/proc/{}/statm".format(pid)) as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
