"""The house stays as it is planned: imports go one way, and the requirements have what is used."""

import ast
import re
import sys

import pytest

# Where a module is not named like the package that brings it.
PACKAGES = {
    "absl": "absl-py",
    "apache_beam": "apache-beam",
    "google": "tensorflow",
    "google_crc32c": "google-crc32c",
}
LONGEST_FUNCTION, LONGEST_MAIN = 60, 40  # lines
# Module -> what it must not know, beside the scripts, which nothing but a script imports.
FORBIDDEN = {
    "modeling": {"absl", "optimization", "lamb_optimizer"},
    "lamb_optimizer": {"absl", "modeling", "optimization"},
    "optimization": {"absl", "modeling"},
    "tokenization": {"tensorflow", "modeling"},
    "pipeline.masking": {"tensorflow", "jieba", "rjieba", "pipeline.corpus", "pipeline.segmenters"},
    "pipeline.batches": {"tensorflow", "jieba", "rjieba", "pipeline.corpus", "pipeline.segmenters"},
    "pipeline.records": {"pipeline.tasks", "pipeline.estimator"},
    "pipeline.features": {"tensorflow", "pipeline.tasks", "pipeline.records"},
    "pipeline.bucketing": {"absl", "pipeline.tasks", "pipeline.estimator"},
    "pipeline.tasks": {"pipeline.estimator", "pipeline.checkpoint"},
    "pipeline.rows": {"tensorflow", "pipeline.tasks"},
    "pipeline.data_checks": {"tensorflow", "pipeline.tasks"},
    "pipeline.scores": {"tensorflow", "pipeline.tasks"},
    "pipeline.predictions": {"tensorflow", "pipeline.estimator"},
    "pipeline.task_data": {"pipeline.estimator", "pipeline.training"},
    "pipeline.runs": {"pipeline.estimator", "pipeline.tasks"},
    "pipeline.checkpoint": {"absl", "pipeline.estimator", "pipeline.run_folder"},
    "pipeline.run_folder": {"absl", "pipeline.estimator", "pipeline.training"},
    "pipeline.weights": {"absl", "pipeline.estimator", "pipeline.run_folder"},
    "pipeline.inspection": {"absl", "pipeline.estimator", "pipeline.weights"},
    "pipeline.devices": {"pipeline.estimator"},
    "pipeline.cluster": {"absl", "pipeline.estimator"},
    "pipeline.finetuning": {"pipeline.training", "pipeline.checkpoint"},
    "layers": {"absl", "modeling", "optimization"},
    "xla": {"absl", "modeling", "layers", "optimization"},
    "huggingface": {"absl", "huggingface_folder", "convert_checkpoint"},
    "huggingface_folder": {"modeling", "convert_checkpoint"},
    "predictor": {"pipeline.estimator", "run_classifier", "predict"},
    "text_ops": {"absl", "modeling", "predictor"},
    "exporting": {"absl", "predict", "export_model"},
    "pipeline.model_folder": {"tensorflow", "pipeline.tasks", "pipeline.estimator"},
    "pipeline.metrics": {"absl", "pipeline.tasks", "pipeline.estimator"},
    "pipeline.hooks": {"absl", "pipeline.estimator"},
    "pipeline.training": {"pipeline.estimator", "pipeline.tasks"},
    "pipeline.signals": {"tensorflow", "absl"},
    "pipeline.preflight": {"pipeline.tasks", "pipeline.training"},
    "pipeline.results": {"absl", "pipeline.estimator"},
}


def imports_of(path):
    """Return the set of modules that a file imports anywhere, `pipeline.x` for those of ours."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            found.update("pipeline." + alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            ours = node.module.startswith("pipeline.")
            found.add(node.module if ours else node.module.split(".")[0])
    return found


def modules(root):
    """Return a dict of module name to path for the root and pipeline/."""
    found = {path.stem: path for path in root.glob("*.py")}
    found.update(("pipeline." + path.stem, path) for path in root.glob("pipeline/*.py"))
    return found


def test_pipeline_imports_no_script_of_the_root(root):
    scripts = {name for name in modules(root) if not name.startswith("pipeline.")}
    for name, path in modules(root).items():
        if name.startswith("pipeline."):
            assert not imports_of(path) & scripts, name


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_modules_know_only_what_they_may(root, name):
    paths = modules(root)
    assert not imports_of(paths[name]) & FORBIDDEN[name]
    if "tensorflow" in FORBIDDEN[name]:  # nor through others: workers that load it are slow
        assert "tensorflow" not in closure(paths, name)


def closure(paths, name):
    """Return the set of modules that are loaded with one of ours."""
    found, left = set(), {name}
    while left:
        found |= left
        left = set().union(*(imports_of(paths[one]) for one in left if one in paths)) - found
    return found


def test_functions_can_be_read_in_one_go(root):
    for name, path in modules(root).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                limit = LONGEST_MAIN if node.name == "main" else LONGEST_FUNCTION
                lines = node.end_lineno - node.lineno + 1
                assert lines <= limit, "{}.{} has {} lines".format(name, node.name, lines)


def requirements(path):
    """Return the set of packages that a requirements file names."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return {re.split(r"[\[=<>]", line)[0] for line in lines if line[:1] not in "#"}


def test_legacy_requirements_lack_nothing(root):
    legacy = requirements(root / "requirements-legacy.txt")
    assert requirements(root / "requirements.txt") <= legacy


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python 3.9 does not list its own modules")
def test_requirements_have_what_is_imported(root):
    others = {root / "requirements-{}.txt".format(name) for name in ("test", "legacy")}
    required = set().union(*map(requirements, set(root.glob("requirements*.txt")) - others))
    standard_and_ours = set(sys.stdlib_module_names) | set(modules(root))
    for name, path in modules(root).items():
        for module in imports_of(path) - standard_and_ours:
            assert PACKAGES.get(module, module) in required, name
