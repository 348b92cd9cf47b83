"""Shell scripts are read by bash and use flags that exist."""

import collections
import importlib.util
import re
import subprocess

import pytest

from tools import update_docs

SCRIPTS = (
    "quickstart.sh",
    "create_pretrain_data.sh",
    "recipes/pretrain_tiny.sh",
    "recipes/finetune_tiny.sh",
)
CALL = re.compile(r"([\w/]+)\.py((?:[^\n]*\\\n)*[^\n]*)")  # to the end of its continued lines


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


def test_bash_reads_them(root):
    scripts = [root / ".ci" / "run"] + sorted(root.glob("*.sh")) + sorted(root.glob("*/*.sh"))
    assert len(scripts) > len(SCRIPTS)
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert "set -euo pipefail" in script.read_text(encoding="utf-8"), script


def test_ci_runs_the_tests(root):
    assert "run_tests.sh" in (root / ".ci" / "run").read_text(encoding="utf-8")
