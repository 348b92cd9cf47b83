"""Modules import only from lower floors; functions, modules and folders have limited sizes."""

import ast
import re
import subprocess

import pytest

# The floors, the lowest first. A room is a folder, or the group of root modules on floor 2. A room
# imports from lower floors and from itself.
FLOORS = (
    ("common", "ops"),
    ("modeling optimization lamb_optimizer tokenization", "tfrecords", "checkpointing"),
    ("masking", "training"),
    ("pretraining_data", "finetuning_data"),
    ("kinds",),
    ("pretraining", "finetuning"),
    ("serving", "huggingface"),
)  # the entries are above all floors; no entry imports another entry
FLOOR_OF = {
    name: (floor, room)
    for floor, rooms in enumerate(FLOORS)
    for room in rooms
    for name in room.split()
}
ENTRY = (len(FLOORS), "entry")
# Many processes load these modules, so neither they nor their imports may load TensorFlow.
WITHOUT_TENSORFLOW = (
    "tokenization",
    "common.workers",
    "common.signals",
    "common.checks",
    "tfrecords.wire",
    "tfrecords.index",
    "tfrecords.compact",
    "masking.vectorized",
    "masking.mask_settings",
    "pretraining_data.build",
    "finetuning_data.encoding",
    "finetuning_data.data_report",
    "finetuning_data.label_decoding",
    "finetuning_data.entity_files",
    "finetuning_data.entity_objects",
    "finetuning_data.labelled_text",
    "finetuning_data.span_files",
    "kinds.entity_scores",
    "kinds.pieces",
    "kinds.span_scores",
    "kinds.span_windows",
    "kinds.class_scores",
    "kinds.class_predictions",
    "checkpointing.model_files",
)
LONGEST_FUNCTION, LONGEST_MAIN, LONGEST_MODULE = 60, 40, 500  # lines
LONGEST = {"modeling": 900}
MOST_MODULES, MOST_ENTRIES = 13, 14


def modules(root):
    """Return a dict of dotted name to path of every module of the product."""
    folders = sorted({name for name in FLOOR_OF if (root / name).is_dir()})
    paths = {path.stem: path for path in root.glob("*.py")}
    for folder in folders:
        names = [path for path in (root / folder).glob("*.py") if path.stem != "__init__"]
        paths.update((folder + "." + path.stem, path) for path in names)
    return paths


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path, ours):
    """Return the modules that a file imports anywhere: ours by dotted name, others' packages."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dotted = [node.module + "." + alias.name for alias in node.names]
            names.update(name if name in ours else node.module for name in dotted)
    return {name if name in ours else name.split(".")[0] for name in names}


def test_imports_go_down_the_floors(root):
    paths = modules(root)
    for name, path in paths.items():
        floor, room = FLOOR_OF.get(name.split(".")[0], ENTRY)
        for imported in imports_of(path, paths) & set(paths):
            below, other = FLOOR_OF.get(imported.split(".")[0], ENTRY)
            is_own = room == other and room != "entry"
            assert below < floor or is_own, "{} imports {}".format(name, imported)


@pytest.mark.parametrize("name", WITHOUT_TENSORFLOW)
def test_data_logic_knows_no_tensorflow(root, name):
    paths = modules(root)
    seen, left = set(), {name}
    while left:
        seen |= left
        left = set().union(*(imports_of(paths[x], paths) for x in left if x in paths)) - seen
    assert "tensorflow" not in seen


def test_functions_and_modules_can_be_read_in_one_go(root):
    for name, path in modules(root).items():
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= LONGEST.get(name, LONGEST_MODULE), "{} has {} lines".format(name, lines)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                limit = LONGEST_MAIN if node.name == "main" else LONGEST_FUNCTION
                lines = node.end_lineno - node.lineno + 1
                assert lines <= limit, "{}.{} has {} lines".format(name, node.name, lines)


def test_folders_can_be_seen_at_a_glance(root):
    names = list(modules(root))
    assert sum("." not in name for name in names) <= MOST_ENTRIES
    for folder in {name.split(".")[0] for name in names if "." in name}:
        assert sum(name.startswith(folder + ".") for name in names) <= MOST_MODULES, folder


def test_the_tests_for_tensorflow_1_exist(root):
    script = (root / "tests" / "run_legacy.sh").read_text(encoding="utf-8")
    files = re.search(r"TESTS=\((.*?)\)", script, re.DOTALL).group(1)
    words = ["bash", "-c", "ls -d " + " ".join(files.split())]
    assert subprocess.call(words, cwd=str(root), stdout=subprocess.DEVNULL) == 0
