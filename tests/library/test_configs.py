"""Every config file of albert_config/ has a known number of parameters."""

import glob
import os

import pytest

import modeling

# With all pre-training heads, V = 21128; counted by hand below.
PARAMETERS = {
    "albert_config_tiny": 4295186,
    "albert_config_tiny_google": 4142594,
    "albert_config_small": 5044490,
    "albert_config_small_google": 4813706,
    "albert_config_base": 11492234,
    "albert_config_base_google": 10669322,
    "albert_config_large": 18084490,
    "albert_config_large_google": 16702986,
    "albert_config_xlarge": 62803594,
    "albert_config_xlarge_google": 57877002,
    "albert_config_xxlarge": 240322186,
    "albert_config_xxlarge_google": 222013962,
    "bert_config": 102882442,
}


def config_files(root):
    return sorted(glob.glob(str(root / "albert_config" / "*.json")))


def test_every_config_file_is_known(root):
    names = [os.path.basename(path)[: -len(".json")] for path in config_files(root)]
    assert names == sorted(PARAMETERS)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_number_of_parameters(root, name):
    path = str(root / "albert_config" / (name + ".json"))
    config = modeling.AlbertConfig.from_json_file(path)
    assert sum(modeling.count_parameters(config).values()) == PARAMETERS[name]
    assert by_hand(config) == PARAMETERS[name]
    assert config.layout == ("google" if name.endswith("_google") else "albert_zh")
    assert config.ln_type == ("preln" if name == "albert_config_xxlarge" else "postln")


def by_hand(config):
    """Count with the formula of the paper's section 3.1 instead of a graph."""
    vocab, hidden, inner = config.vocab_size, config.hidden_size, config.intermediate_size
    embedding = config.embedding_size or hidden
    google = config.layout == "google"
    width = embedding if google else hidden  # of positions, types and their LayerNorm
    embeddings = vocab * embedding + (512 + 2 + 2) * width
    if config.embedding_size:
        embeddings += embedding * hidden + (hidden if google else 0)
    layer = 4 * (hidden + 1) * hidden + (hidden + 1) * inner + (inner + 1) * hidden + 4 * hidden
    layers = 1 if config.parameter_sharing == "all" else config.num_hidden_layers
    masked_lm = (hidden + 1) * width + 2 * width + vocab
    return embeddings + layers * layer + (hidden + 1) * hidden + masked_lm + 2 * hidden + 2
