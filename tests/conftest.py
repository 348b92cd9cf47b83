"""What all tests share: quiet logs, the same random examples in every run, and paths."""

import gc
import os
import pathlib
import sys

import hypothesis
import pytest

import tokenization
from common import tensorflow_settings

tensorflow_settings.set_environment()
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# Every run draws the same examples; HYPOTHESIS_PROFILE=default draws new ones.
hypothesis.settings.register_profile("same", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Folders of the files that take longest.
SLOW = ("entries", "training")

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items):
    """Run the files that take longest first, so that no worker starts one of them at the end."""
    items.sort(key=lambda item: pathlib.Path(str(item.fspath)).parent.name not in SLOW)


def pytest_collection_finish():
    """Make the tests fast: rare garbage collections, and no optimized graphs in this process.

    TensorFlow takes longer to optimize and to compile the graph of a small model than to run it.
    Programs that the tests start optimize their graphs as usual, and so does `helpers.optimized`.
    tests/library compares compiled functions with plain ones.
    """
    if "training.devices" in sys.modules:
        import helpers  # imported only here, because it loads TensorFlow

        helpers.optimize_on_demand(sys.modules["training.devices"])
    gc.freeze()  # imported objects are never freed, so do not scan them
    gc.set_threshold(20000, 20, 10)  # a graph has thousands of objects, most of them in use


@pytest.fixture(scope="session")
def root():
    """Path of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def tokenizer(root):
    """The tokenizer of the published vocabulary."""
    return tokenization.FullTokenizer(str(root / "albert_config" / "vocab.txt"))


@pytest.fixture(scope="session")
def fixtures():
    """Path of the recorded reference outputs."""
    return ROOT / "tests" / "fixtures"
