"""Shell scripts are read by bash and use flags that exist."""

import collections
import importlib.util
import os
import re
import subprocess
import sys

import pytest

from tools import update_docs

SCRIPTS = (
    "quickstart.sh",
    "create_pretrain_data.sh",
    "recipes/pretrain_tiny.sh",
    "recipes/finetune_tiny.sh",
)
CALL = re.compile(
    r"(?:\$folder/)?([\w/]+)\.py\"?((?:[^\n]*\\\n)*[^\n]*)"
)  # to the end of the continued lines of a command


def flag_names(root, path):
    """Return the names of the flags of a Python script."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), str(root / path) + ".py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = update_docs.flags.FlagValues()
    module.define_flags(values)
    return set(values)


@pytest.mark.parametrize("name", SCRIPTS)
def test_flags_exist(root, name):
    calls = CALL.findall((root / name).read_text(encoding="utf-8"))
    used = collections.defaultdict(set)
    for path, words in calls:
        names = re.findall(r"--(\w+)=", words)
        if names:
            used[path].update(names)
    assert used
    for path, names in used.items():
        assert names <= flag_names(root, path), path


def test_paths_of_the_user_begin_in_his_folder(root, tmp_path):
    (tmp_path / "my.txt").write_text("天地玄黄。\n宇宙洪荒。\n\n日月盈昃。\n", encoding="utf-8")
    command = ["bash", str(root / "create_pretrain_data.sh"), "--input_file=my.txt"]
    command += ["--output_file=my.tfrecord", "--max_seq_length=16", "--num_workers=1"]
    environment = dict(os.environ, PATH=os.path.dirname(sys.executable) + ":" + os.environ["PATH"])
    subprocess.run(command, cwd=str(tmp_path), env=environment, check=True)
    assert (tmp_path / "my.tfrecord").exists()


def test_bash_reads_them(root):
    scripts = [root / ".ci" / "run"] + sorted(root.glob("*.sh")) + sorted(root.glob("*/*.sh"))
    assert len(scripts) > len(SCRIPTS)
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert "set -euo pipefail" in script.read_text(encoding="utf-8"), script


def test_ci_runs_the_tests(root):
    assert "run_tests.sh" in (root / ".ci" / "run").read_text(encoding="utf-8")
