"""The model of Hugging Face with which benchmarks compare ours."""

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
    return transformers.AlbertConfig(**configs.to_config(same, "albert", None), **fields)
