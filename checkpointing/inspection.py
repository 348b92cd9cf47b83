"""What the names and shapes of a checkpoint tell of the model in it, and what they cannot tell."""

import re

from checkpointing import restore

# Fields of a config that no shape depends on.
NOT_IN_SHAPES = (
    "num_attention_heads",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
)
# Head -> the variable that tells of it.
HEADS = {
    "masked_lm": "cls/predictions/output_bias",
    "sentence_order": "cls/seq_relationship/output_weights",
    "classifier": "output_weights",
}
LAYER = re.compile(r"bert/encoder/(?:layer_|transformer/group_)(\d+|shared)/")
INNER = re.compile(r"/inner_group_(\d+)/")
SUBLAYERS = {"attention": r"/attention", "ffn": r"/(intermediate|ffn_1)/"}


def describe(shapes):
    """Return what can be read off a checkpoint's variables.

    Args:
        shapes: dict of variable name to list of int.

    Returns:
        dict: `layout`; `fields`, those of the config that are known; `unknown`, names of fields
        that are not; `heads`; `num_labels` of a classifier or None; `slots`, names of optimizer
        states.
    """
    layout = restore.detect_layout(shapes)
    fields = _sizes(shapes, layout)
    fields.update(_sharing(shapes, layout))
    unknown = list(NOT_IN_SHAPES)
    if layout != "google":
        unknown.append("ln_type")
    if "num_hidden_layers" not in fields:
        unknown.append("num_hidden_layers")
    slots = {name.rpartition("/")[2] for name in shapes if name.rpartition("/")[0] in shapes}
    return {
        "layout": layout,
        "fields": fields,
        "unknown": sorted(unknown),
        "heads": list(find_heads(shapes)),
        "num_labels": shapes.get("output_weights", [None])[0],
        "slots": sorted(slots),
    }


def find_heads(names):
    """Return the heads that variables belong to, a tuple in the order of `HEADS`."""
    return tuple(head for head, mark in HEADS.items() if mark in names)


def _sizes(shapes, layout):
    """Return the fields that are lengths of tables and kernels."""

    def shape(pattern):
        return next((shapes[name] for name in sorted(shapes) if re.search(pattern, name)), None)

    found = {"layout": layout if layout in ("albert_zh", "google") else "albert_zh"}
    words, positions = shape(r"/word_embeddings$"), shape(r"/position_embeddings$")
    types = shape(r"/token_type_embeddings$")
    query, wide = shape(r"/query/kernel$"), shape(r"/intermediate/dense/kernel$")
    if words:
        found["vocab_size"], found["embedding_size"] = words
    if positions:
        found["max_position_embeddings"] = positions[0]
    if types:
        found["type_vocab_size"] = types[0]
    if query:
        found["hidden_size"] = query[0]
    if wide:
        found["intermediate_size"] = wide[1]
    if layout != "google" and not shape(r"/word_embeddings_2$"):
        found["embedding_size"] = None
    return found


def _sharing(shapes, layout):
    """Return the fields that say which layers share weights, and L where none does."""
    names = [name for name in shapes if not restore.is_slot(name, shapes)]
    numbers = {
        sublayer: {m.group(1) for m in map(LAYER.search, names) if m and re.search(mark, m.string)}
        for sublayer, mark in SUBLAYERS.items()
    }
    attention, ffn = len(numbers["attention"]), len(numbers["ffn"])
    most = max(attention, ffn)
    found = {}
    if layout == "google":
        inner = {m.group(1) for m in map(INNER.search, names) if m}
        found["inner_group_num"] = max(len(inner), 1)
        if attention == ffn:  # each layer its own group, and groups of layers, look the same
            return dict(found, num_hidden_groups=most, parameter_sharing="all")
    if attention != ffn:
        found["parameter_sharing"] = "attention" if attention == 1 else "ffn"
    elif "shared" in numbers["attention"]:
        return dict(found, parameter_sharing="all")
    else:
        found["parameter_sharing"] = "none"
    return dict(found, num_hidden_layers=most)
