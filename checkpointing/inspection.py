"""The parts of a model's config that its variables' names and shapes show."""

import re

from checkpointing.checkpoint_reader import detect_layout, is_slot

# Fields of a config on which no name and no shape depends.
NOT_IN_SHAPES = (
    "num_attention_heads",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
)
# Head -> a variable that every model with this head has.
HEADS = {
    "masked_lm": "cls/predictions/output_bias",
    "sentence_order": "cls/seq_relationship/output_weights",
    "classifier": "output_weights",
}
LAYER = re.compile(r"bert/encoder/(?:layer_|transformer/group_)(\d+|shared)/")
INNER = re.compile(r"/inner_group_(\d+)/")
SUBLAYERS = {"attention": r"/attention", "ffn": r"/(intermediate|ffn_1)/"}


def summarize(shapes):
    """Return the layout, the heads and the known fields of the config of a checkpoint.

    Args:
        shapes: dict of variable name to list of int.

    Returns:
        dict: `layout`; `fields`, a dict of the known fields of the config; `unknown`, names of
        other fields; `heads`; `num_labels` of a classifier or None; `slots`, names of the
        optimizer's states.
    """
    layout = detect_layout(shapes)
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
    """Return the heads that a model with these variables has, a tuple in the order of `HEADS`."""
    return tuple(head for head, mark in HEADS.items() if mark in names)


def _sizes(shapes, layout):
    """Return the fields that are sizes of tables and kernels."""

    def shape(pattern):
        return next((shapes[name] for name in sorted(shapes) if re.search(pattern, name)), None)

    fields = {"layout": "google" if layout == "google" else "albert_zh"}
    words, positions = shape(r"/word_embeddings$"), shape(r"/position_embeddings$")
    types = shape(r"/token_type_embeddings$")
    query, wide = shape(r"/query/kernel$"), shape(r"/intermediate/dense/kernel$")
    if words:
        fields["vocab_size"], fields["embedding_size"] = words
    if positions:
        fields["max_position_embeddings"] = positions[0]
    if types:
        fields["type_vocab_size"] = types[0]
    if query:
        fields["hidden_size"] = query[0]
    if wide:
        fields["intermediate_size"] = wide[1]
    if layout != "google" and not shape(r"/word_embeddings_2$"):
        fields["embedding_size"] = None
    return fields


def _sharing(shapes, layout):
    """Return the fields that say which layers share weights; L, too, if some are not shared."""
    names = [name for name in shapes if not is_slot(name, shapes)]
    numbers = {
        sublayer: {m.group(1) for m in map(LAYER.search, names) if m and re.search(mark, m.string)}
        for sublayer, mark in SUBLAYERS.items()
    }
    attention, ffn = len(numbers["attention"]), len(numbers["ffn"])
    most = max(attention, ffn)
    fields = {}
    if layout == "google":
        inner = {m.group(1) for m in map(INNER.search, names) if m}
        fields["inner_group_num"] = max(len(inner), 1)
        if attention == ffn:  # layers that share nothing look like groups of one layer each
            return dict(fields, num_hidden_groups=most, parameter_sharing="all")
    if attention != ffn:
        fields["parameter_sharing"] = "attention" if attention == 1 else "ffn"
    elif "shared" in numbers["attention"]:
        return dict(fields, parameter_sharing="all")
    else:
        fields["parameter_sharing"] = "none"
    return dict(fields, num_hidden_layers=most)
