"""The run on Apache Beam makes what the local run makes."""

import json
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

pytest.importorskip("apache_beam")


def test_beam_in_several_processes_makes_the_same_records(root, tmp_path):
    sample = (root / "data" / "news_zh_1.txt").read_text(encoding="utf-8")
    for name in "ab":
        (tmp_path / name).write_text("\n\n".join([sample + name] * 6), encoding="utf-8")
    flags = {
        "input_file": "{0}/a,{0}/b".format(tmp_path),
        "vocab_file": root / "albert_config" / "vocab.txt",
        "max_seq_length": 128,
        "max_predictions_per_seq": 13,
        "dupe_factor": 2,
        "num_output_shards": 3,
    }
    runs = {
        "local": {},
        "beam": {
            "runner": "DirectRunner",
            "runner_options": "--direct_num_workers=2 --direct_running_mode=multi_processing",
        },
    }
    records, manifests = {}, {}
    for name, more in runs.items():
        values = dict(flags, output_file=tmp_path / name / "out", **more)
        subprocess.run(
            [sys.executable, str(root / "create_pretraining_data.py")]
            + ["--{}={}".format(*item) for item in values.items()],
            cwd=str(tmp_path),
            check=True,
        )
        paths = sorted((tmp_path / name).glob("out-?????-of-00003"))
        records[name] = [list(tf.io.tf_record_iterator(str(path))) for path in paths]
        with open("{}.manifest.json".format(paths[0]), encoding="utf-8") as stream:
            manifests[name] = json.load(stream)
        assert len(list((tmp_path / name).iterdir())) == 4
    assert len(records["local"]) == 3
    assert list(map(sorted, records["local"])) == list(map(sorted, records["beam"]))
    for key in ("counts", "statistics", "inputs", "vocab_sha256"):
        assert manifests["local"][key] == manifests["beam"][key]
