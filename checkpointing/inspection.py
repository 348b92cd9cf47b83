"""Finds fields of a model's config by the names and shapes of its variables."""

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
# A config with none of these fields describes a BERT.
NOT_IN_BERT = ("layout", "parameter_sharing", "embedding_size")
# Head -> a variable that every model with this head has.
HEADS = {
    "masked_lm": "cls/predictions/output_bias",
    "sentence_order": "cls/seq_relationship/output_weights",
    "classifier": "output_weights",
    "choice": "output_weights",  # one row; a classifier has a row for each label
    "spans": "cls/squad/output_weights",
    "labels": "cls/labels/output_weights",
}
# Heads of fine-tuned models. The heads in WITH_LABELS have an output for each label.
TUNED = ("classifier", "choice", "spans", "labels")
WITH_LABELS = ("classifier", "labels")
# (field of a config, pattern of the variable that has it, axis)
SIZES = (
    ("vocab_size", r"/word_embeddings$", 0),
    ("embedding_size", r"/word_embeddings$", 1),
    ("max_position_embeddings", r"/position_embeddings$", 0),
    ("type_vocab_size", r"/token_type_embeddings$", 0),
    ("hidden_size", r"/query/kernel$", 0),
    ("intermediate_size", r"/intermediate/dense/kernel$", 1),
)
LAYER = re.compile(r"bert/encoder/(?:layer_|transformer/group_)(\d+|shared)/")
INNER = re.compile(r"/inner_group_(\d+)/")
SUBLAYERS = {"attention": r"/attention", "ffn": r"/(intermediate|ffn_1)/"}


def summarize(shapes):
    """Return the layout, the heads and the known fields of the config of a checkpoint.

    Args:
        shapes: dict of variable name to list of int.

    Returns:
        dict: `layout`; `fields`, a dict of the known fields of the config; `unknown`, names of
        other fields; `heads`; `num_labels`, of a head with labels, else None; `slots`, names of
        the optimizer's states.
    """
    layout = detect_layout(shapes)
    fields = dict(_sizes(shapes, layout), **_sharing(shapes, layout))
    if layout == "bert" and fields["parameter_sharing"] == "none":
        for field in NOT_IN_BERT:
            del fields[field]
    unknown = set(NOT_IN_SHAPES + ("num_hidden_layers",)).difference(fields)
    if layout == "albert_zh":
        unknown.add("ln_type")
    slots = {name.rpartition("/")[2] for name in shapes if name.rpartition("/")[0] in shapes}
    return {
        "layout": layout,
        "fields": fields,
        "unknown": sorted(unknown),
        "heads": list(find_heads(shapes)),
        "num_labels": tuned_head(shapes)[1] or None,
        "slots": sorted(slots),
    }


def tuned_head(shapes):
    """Return (head, number of labels) of a fine-tuned model, (None, 0) of any other.

    Args:
        shapes: as in `find_heads`.
    """
    head = next((head for head in find_heads(shapes) if head in TUNED), None)
    return head, shapes[HEADS[head]][0] if head in WITH_LABELS else 0


def find_heads(shapes):
    """Return the heads that a model has, a tuple in the order of `HEADS`.

    Args:
        shapes: dict of variable name to its shape, a list or tuple.
    """
    absent = "classifier" if list(shapes.get("output_weights", ()))[:1] == [1] else "choice"
    return tuple(head for head, mark in HEADS.items() if mark in shapes and head != absent)


def shapes_of_arrays(arrays):
    """Turn a dict of name to array into a dict of name to shape."""
    return {name: array.shape for name, array in arrays.items()}


def _sizes(shapes, layout):
    """Return the fields that are sizes of tables and kernels."""
    fields = {"layout": "google" if layout == "google" else "albert_zh"}
    for field, pattern, axis in SIZES:
        name = next(filter(re.compile(pattern).search, sorted(shapes)), None)
        if name:
            fields[field] = shapes[name][axis]
    if layout != "google" and not any(name.endswith("/word_embeddings_2") for name in shapes):
        fields["embedding_size"] = None
    return fields


def _sharing(shapes, layout):
    """Return the fields that say which layers share weights, and L if not all layers share all."""
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
        if attention == ffn:  # layers without shared weights look like groups of one layer
            return dict(fields, num_hidden_groups=most, parameter_sharing="all")
    if attention != ffn:
        fields["parameter_sharing"] = "attention" if attention == 1 else "ffn"
    elif "shared" in numbers["attention"]:
        return dict(fields, parameter_sharing="all")
    else:
        fields["parameter_sharing"] = "none"
    return dict(fields, num_hidden_layers=most)
