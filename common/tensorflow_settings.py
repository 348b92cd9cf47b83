"""Settings that TensorFlow reads only once: when a process imports it."""

import os

SETTINGS = {
    # TensorFlow's C++ code logs ten lines at every start. With 3, errors are still raised.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Products by oneDNN. TensorFlow's default is 1 on a CPU with AVX-512 VNNI, else 0. With AVX2
    # a training step takes 14% to 18% less time with 1, see benchmarks/README.md.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


def set_environment():
    """Set the settings that the environment does not have; call it before TensorFlow's import."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
