"""The model of Hugging Face with which benchmarks compare ours, and how it is computed."""

import contextlib
import dataclasses

import modeling
from huggingface import configs


def albert_config(path, **fields):
    """Return the transformers.AlbertConfig with the sizes of a JSON file of ours, of either layout.

    Args:
        path: str.
        **fields: further fields of the transformers.AlbertConfig.
    """
    import transformers

    config = modeling.AlbertConfig.from_json_file(path)
    same = dataclasses.replace(config, layout="google", ln_type="postln")
    return transformers.AlbertConfig(**configs.to_config(same, "albert", "AlbertModel"), **fields)


def device():
    """Return the device on which the peer runs, a name of PyTorch: cuda or cpu."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def autocast(device, precision):
    """Return the context in which the peer computes in `precision`; on a CPU always in float32."""
    import torch

    if device == "cpu" or precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device, getattr(torch, precision))
