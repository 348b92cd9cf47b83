"""The model of Hugging Face that ours is measured beside."""

import dataclasses

import modeling
from huggingface import mapping


def albert_config(path, **fields):
    """Return the transformers.AlbertConfig of the sizes in a JSON file of ours, of either layout.

    Args:
        path: str.
        **fields: what is to be set besides.
    """
    import transformers

    config = modeling.AlbertConfig.from_json_file(path)
    same = dataclasses.replace(config, layout="google", ln_type="postln")
    return transformers.AlbertConfig(**mapping.to_config(same, "albert", None), **fields)
