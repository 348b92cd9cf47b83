"""The run on Apache Beam makes what the local run makes."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf

pytest.importorskip("apache_beam")

from apache_beam.options.pipeline_options import PipelineOptions

import create_pretraining_data
from common import cli
from common.errors import UserError


def run(values):
    argv = ["create"] + ["--{}={}".format(*item) for item in values.items()]
    create_pretraining_data.main(cli.parse(create_pretraining_data.define_flags, argv))


def run_in_a_process(values):
    command = [sys.executable, str(pathlib.Path(create_pretraining_data.__file__))]
    command += ["--{}={}".format(*item) for item in values.items()]
    subprocess.run(command, cwd=str(values["output_file"].parent.parent), check=True)


SEVERAL = "--direct_num_workers=2 --direct_running_mode=multi_processing"


@pytest.mark.parametrize(
    "record_format, options, run_beam",
    [("published", None, run), ("compact", SEVERAL, run_in_a_process)],
)
def test_beam_in_one_or_several_processes_makes_the_same_records(
    root, tmp_path, record_format, options, run_beam
):
    sample = (root / "data" / "news_zh_1.txt").read_text(encoding="utf-8")
    for name in "ab":
        (tmp_path / name).write_text("\n\n".join([sample + name] * 6), encoding="utf-8")
    flags = {
        "input_file": "{0}/a,{0}/b".format(tmp_path),
        "vocab_file": root / "albert_config" / "vocab.txt",
        "max_seq_length": 128,
        "max_predictions_per_seq": 13,
        "dupe_factor": 2 if record_format == "published" else 1,
        "record_format": record_format,
        "num_output_shards": 3,
    }
    beam = {"runner": "DirectRunner"}
    if options:
        beam["runner_options"] = options
    records, manifests = {}, {}
    for name, run_one, more in (("local", run, {"num_workers": 1}), ("beam", run_beam, beam)):
        run_one(dict(flags, output_file=tmp_path / name / "out", **more))
        paths = sorted((tmp_path / name).glob("out-?????-of-00003"))
        records[name] = [list(tf.io.tf_record_iterator(str(path))) for path in paths]
        with open("{}.manifest.json".format(paths[0]), encoding="utf-8") as stream:
            manifests[name] = json.load(stream)
        assert len(list((tmp_path / name).iterdir())) == 4
    assert len(records["local"]) == 3
    assert list(map(sorted, records["local"])) == list(map(sorted, records["beam"]))
    for key in ("counts", "statistics", "inputs", "vocab_sha256"):
        assert manifests["local"][key] == manifests["beam"][key]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"runner": "NoRunner"}, "--runner=NoRunner: Unexpected pipeline runner"),
        ({"runner": "DataflowRunner"}, "Missing required option: project"),
        ({"runner_options": "'"}, "--runner_options=': No closing quotation"),
        ({"runner": "FnApiRunner", "num_output_shards": 300}, "too few for 300 output files"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(root, tmp_path, changes, message):
    (tmp_path / "text").write_text("一二三。\n四五六。\n" * 3, encoding="utf-8")
    values = {
        "input_file": tmp_path / "text",
        "output_file": tmp_path / "out",
        "vocab_file": root / "albert_config" / "vocab.txt",
        "runner": "DirectRunner",
    }
    values.update(changes)
    with pytest.raises(UserError) as raised:
        run(values)
    assert message in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize(
    "runner, content, message",
    [("NoRunner", "一二三。\n四五六。\n", "NoRunner"), ("DirectRunner", "一\udcff", "UTF-8")],
)
def test_a_run_that_cannot_read_leaves_older_records(root, tmp_path, runner, content, message):
    (tmp_path / "text").write_text(content, encoding="utf-8", errors="surrogateescape")
    (tmp_path / "out").write_text("older")
    argv = [
        "create", "--input_file={}/text".format(tmp_path), "--output_file={}/out".format(tmp_path),
        "--vocab_file={}/albert_config/vocab.txt".format(root), "--overwrite",
        "--runner=" + runner,
    ]  # fmt: skip
    with pytest.raises(UserError, match=message):
        create_pretraining_data.main(cli.parse(create_pretraining_data.define_flags, argv))
    assert (tmp_path / "out").read_text() == "older"


def test_runners_know_the_options_that_the_docs_show(root):
    text = (root / "docs" / "distributed.md").read_text(encoding="utf-8")
    shown = re.findall(r"--runner=(\w+) *\\?\n? *--runner_options=[\"']([^\"']*)", text)
    assert {"DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner"} == {
        runner for runner, _ in shown
    }
    for runner, options in shown:
        known = PipelineOptions(shlex.split(options), runner=runner).get_all_options(
            drop_default=True
        )
        assert {word.partition("=")[0][2:] for word in options.split()} < set(known), runner
