"""What all tests share: quiet TensorFlow logs and the paths of the repository."""

import os
import pathlib

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root():
    """Path of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def fixtures():
    """Path of the recorded reference outputs."""
    return ROOT / "tests" / "fixtures"
