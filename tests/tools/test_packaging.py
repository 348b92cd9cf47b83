"""pyproject.toml lists our modules and the packages they import; constraints.txt pins these."""

import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_layout import imports_of, modules

tomllib = pytest.importorskip("tomllib")  # Python 3.11

# Module -> the package that contains it, where their names differ.
PACKAGES = {
    "absl": "absl-py",
    "apache_beam": "apache-beam",
    "google": "tensorflow",
    "google_crc32c": "google-crc32c",
}


@pytest.fixture(scope="module")
def pyproject(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(pyproject, *extras):
    """Return the `Requirement` list of the dependencies and of the named extras."""
    lines = list(pyproject["project"]["dependencies"])
    for extra in extras:
        lines += pyproject["project"]["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def names(items):
    return {canonicalize_name(item.name) for item in items}


def test_every_module_is_installed(root, pyproject):
    listed = pyproject["tool"]["setuptools"]
    ours = set(modules(root)) - {"test_changes"}
    assert listed["py-modules"] == sorted(name for name in ours if "." not in name)
    assert listed["packages"] == sorted({name.split(".")[0] for name in ours if "." in name})


def test_dependencies_have_what_is_imported(root, pyproject):
    required = names(requirements(pyproject, "beam", "export", "interop", "plot"))
    paths = modules(root)
    for name, path in paths.items():
        for module in imports_of(path, paths) - set(sys.stdlib_module_names) - set(paths):
            package = canonicalize_name(PACKAGES.get(module, module))
            assert package in required, "{} imports {}".format(name, module)


def test_legacy_dependencies_lack_nothing(pyproject):
    legacy = [Requirement(line) for line in pyproject["dependency-groups"]["legacy"]]
    assert names(requirements(pyproject)) <= names(legacy)


@pytest.mark.parametrize("python", ["3.9", "3.10", "3.11"])
def test_constraints_pin_what_pyproject_allows(root, pyproject, python):
    """After a change of dependencies, the first lines of constraints.txt show how to renew it."""
    machine = {"sys_platform": "linux", "platform_machine": "x86_64"}
    machine.update(python_version=python, python_full_version=python + ".1")

    def for_machine(items):
        return [item for item in items if not item.marker or item.marker.evaluate(machine)]

    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = for_machine([Requirement(line) for line in lines if not line.startswith("#")])
    versions = {pin.name: str(pin.specifier)[len("==") :] for pin in pins}
    extras = pyproject["project"]["optional-dependencies"]
    for item in for_machine(requirements(pyproject, *extras)):
        assert versions[canonicalize_name(item.name)] in item.specifier, item
