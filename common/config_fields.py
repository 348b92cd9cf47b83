"""Fields of published config files that `AlbertConfig` lacks: some are refused, others ignored.

Config files are published by google-research/albert, albert_zh and google-research/bert. Hugging
Face calls the file of its ALBERT and BERT models `config.json`.
"""

from typing import NamedTuple, Tuple

GOOGLE, BERT, HUGGINGFACE = "google", "bert, albert_zh", "Hugging Face"


class Fixed(NamedTuple):
    """A field whose other values would change the computation; they are refused."""

    values: Tuple[object, ...]  # the values that mean what this code computes
    effect: str  # what the field decides


# Field of Hugging Face -> `Fixed`.
FIXED = {
    "layer_norm_eps": Fixed((1e-12,), "the number added to the variance in LayerNorm"),
    "position_embedding_type": Fixed(("absolute",), "how positions enter the attention"),
    "is_decoder": Fixed((False,), "whether a piece attends only to itself and earlier pieces"),
    "is_encoder_decoder": Fixed((False,), "whether there is a second stack of layers"),
    "add_cross_attention": Fixed((False,), "whether layers read a second sequence"),
    "cross_attention_hidden_size": Fixed((None,), "the width of a second sequence"),
    "pruned_heads": Fixed(({}, None), "attention heads that were removed"),
    "tie_word_embeddings": Fixed((True,), "whether the masked_lm head uses the word embeddings"),
}
# (code that writes them, why their values do not matter here, fields)
IGNORED_GROUPS = (
    (
        GOOGLE,
        "the published code does not read them",
        "down_scale_factor gap_size layers_to_keep net_structure_type num_memory_blocks",
    ),
    (
        BERT,
        "the published code does not read them",
        "directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers "
        "pooler_size_per_head pooler_type",
    ),
    (
        HUGGINGFACE,
        "they describe the file, its tokenizer or the labels",
        "_name_or_path _num_labels architectures bos_token_id cls_token_id custom_pipelines "
        "decoder_start_token_id dtype eos_token_id finetuning_task id2label label2id "
        "language mask_token_id name name_or_path num_labels pad_token_id prefix problem_type "
        "sep_token_id task_specific_params tokenizer_class torch_dtype transformers_version "
        "unk_token_id",
    ),
    (
        HUGGINGFACE,
        "they choose how PyTorch computes the same, or what a call returns",
        "_attn_implementation _attn_implementation_autoset attn_implementation "
        "chunk_size_feed_forward gradient_checkpointing output_attentions output_hidden_states "
        "output_past return_dict tf_legacy_loss tie_encoder_decoder torchscript use_bfloat16 "
        "use_cache xla_device",
    ),
    (
        HUGGINGFACE,
        "the dropout before a classifier, which training here sets itself",
        "classifier_dropout classifier_dropout_prob",
    ),
    (
        HUGGINGFACE,
        "only models that write text read them",
        "bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping "
        "encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id "
        "forced_eos_token_id length_penalty max_length min_length no_repeat_ngram_size "
        "num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values "
        "repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p "
        "typical_p",
    ),
)
IGNORED = frozenset(name for _, _, names in IGNORED_GROUPS for name in names.split())

# Names of activations at Hugging Face -> our names. At Hugging Face `gelu` is the exact function.
# Here and in the published code of Google and albert_zh `gelu` is the tanh approximation.
ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_python_tanh": "gelu",
    "gelu_fast": "gelu",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
# model_type -> values of fields that a config.json of Hugging Face leaves out.
HUGGINGFACE_DEFAULTS = {
    "albert": {
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0,
        "attention_probs_dropout_prob": 0,
    },
    "bert": {"hidden_act": "gelu"},
}
# model_type -> the fields of our config that this type decides.
HUGGINGFACE_LAYOUTS = {
    "albert": {"layout": "google"},
    "bert": {"layout": "albert_zh", "embedding_size": None, "parameter_sharing": "none"},
}
# A published config with none of these fields belongs to a BERT, whose layers share no weights.
MARKS_OF_ALBERT = ("embedding_size", "num_hidden_groups", "layout", "ln_type", "parameter_sharing")


def table_rows():
    """Return rows for the docs: (fields, code that writes them, what this code does with them)."""
    rows = [
        ("`{}`".format(name), HUGGINGFACE, "{}: refused unless {}".format(fixed.effect, shown))
        for name, fixed in FIXED.items()
        for shown in [" or ".join("`{!r}`".format(value) for value in fixed.values)]
    ]
    rows.append(("`model_type`", HUGGINGFACE, "`albert` or `bert`; others are refused"))
    for writers, reason, names in IGNORED_GROUPS:
        fields = ", ".join("`{}`".format(name) for name in names.split())
        rows.append((fields, writers, "ignored: " + reason))
    return rows
