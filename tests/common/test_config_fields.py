"""Published config files work as they are; fields that would change the computation are refused."""

import json

import pytest

from checkpointing import model_files
from common import config_fields
from common.albert_config import AlbertConfig
from common.errors import UserError

SIZES = {
    "hidden_size": 24,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "type_vocab_size": 2,
    "vocab_size": 30,
}
DROPOUT = {"attention_probs_dropout_prob": 0, "hidden_dropout_prob": 0}
POOLER = {
    "directionality": "bidi",
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
}
GROUPS = {"embedding_size": 8, "num_hidden_groups": 1, "inner_group_num": 1}
# Published file -> (its fields, what they mean here).
PUBLISHED = {
    "google": (
        dict(
            dict(SIZES, **DROPOUT),
            hidden_act="relu",
            net_structure_type=0,
            layers_to_keep=[],
            gap_size=0,
            num_memory_blocks=0,
            down_scale_factor=1,
            **GROUPS,
        ),
        ("google", 8, "all", "relu"),
    ),
    "albert_zh": (
        dict(dict(SIZES, **POOLER), hidden_act="gelu", embedding_size=8, ln_type="postln"),
        ("albert_zh", 8, "all", "gelu"),
    ),
    "bert": (dict(dict(SIZES, **POOLER), hidden_act="gelu"), ("albert_zh", None, "none", "gelu")),
    "huggingface_albert": (
        dict(
            dict(SIZES, **GROUPS),
            architectures=["AlbertForMaskedLM"],
            bos_token_id=2,
            classifier_dropout_prob=0.1,
            eos_token_id=3,
            hidden_act="gelu_new",
            layer_norm_eps=1e-12,
            model_type="albert",
            output_past=True,
            pad_token_id=0,
            position_embedding_type="absolute",
            transformers_version="4.21.0",
            net_structure_type=0,
            gap_size=0,
            num_memory_blocks=0,
            down_scale_factor=1,
        ),
        ("google", 8, "all", "gelu"),
    ),
    "huggingface_bert": (
        dict(
            dict(SIZES, **POOLER),
            architectures=["BertForMaskedLM"],
            classifier_dropout=None,
            gradient_checkpointing=False,
            hidden_act="gelu_pytorch_tanh",
            layer_norm_eps=1e-12,
            model_type="bert",
            pad_token_id=0,
            torch_dtype="float32",
            use_cache=True,
        ),
        ("albert_zh", None, "none", "gelu"),
    ),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_files_work_as_they_are(name, tmp_path):
    values, expected = PUBLISHED[name]
    config = AlbertConfig.from_dict(values)
    meaning = (config.layout, config.embedding_size, config.parameter_sharing, config.hidden_act)
    assert meaning == expected
    assert (config.hidden_size, config.num_attention_heads) == (24, 2)
    assert AlbertConfig.from_dict(config.to_dict()) == config
    # A config beside a checkpoint equals the same config, whatever names its values have.
    (tmp_path / "albert_config.json").write_text(json.dumps(values), encoding="utf-8")
    model_files.check_config(config, str(tmp_path / "model.ckpt"))


def test_another_activation_than_the_archive_s_names_the_archive_s_config(tmp_path):
    path = tmp_path / "albert_config.json"
    path.write_text(json.dumps(PUBLISHED["google"][0]), encoding="utf-8")
    ours = dict(PUBLISHED["google"][0], hidden_act="gelu")
    with pytest.raises(UserError, match="give --bert_config_file={}".format(path)):
        model_files.check_config(AlbertConfig.from_dict(ours), str(tmp_path / "model.ckpt"))


@pytest.mark.parametrize("name", sorted(config_fields.FIXED))
def test_what_would_change_the_computation_is_refused(name):
    fixed = config_fields.FIXED[name]
    for value in fixed.values:
        AlbertConfig.from_dict(dict(SIZES, **{name: value}))
    with pytest.raises(UserError, match="config.json: {}=.other. .{}".format(name, fixed.effect)):
        AlbertConfig.from_dict(dict(SIZES, **{name: "other"}), "config.json")


def test_no_field_has_two_meanings():
    own = set(AlbertConfig(5).to_dict())
    names = " ".join(names for _, _, names in config_fields.IGNORED_GROUPS).split()
    assert len(names) == len(config_fields.IGNORED)
    assert not config_fields.IGNORED & (own | set(config_fields.FIXED))


def test_the_exact_gelu_is_refused_and_the_remedy_works():
    values = dict(PUBLISHED["huggingface_bert"][0], hidden_act="gelu")
    with pytest.raises(UserError, match="hidden_act 'gelu' .* write gelu_new there"):
        AlbertConfig.from_dict(values)
    assert AlbertConfig.from_dict(dict(values, hidden_act="gelu_new")).hidden_act == "gelu"


def test_another_kind_of_model_is_named():
    with pytest.raises(UserError, match="model_type 'roberta', not albert or bert"):
        AlbertConfig.from_dict(dict(SIZES, model_type="roberta"))
