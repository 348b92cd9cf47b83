"""The config of a model: the fields of its JSON file, read and checked."""

import dataclasses
import difflib
import json
from typing import Optional

from common import config_fields, files
from common.errors import UserError


@dataclasses.dataclass
class AlbertConfig:
    """The fields of a model's JSON file, under their published names.

    `layout` names the code base whose checkpoints the model reads: `albert_zh` projects word
    embeddings from E to H before it adds positions and types, `google` afterwards.
    `embedding_size` None means no factorization: the word table has H columns, as in BERT.
    """

    vocab_size: int
    embedding_size: Optional[int] = None
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layout: str = "albert_zh"
    ln_type: str = "postln"
    parameter_sharing: str = "all"
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    pooled_norm: bool = False  # whether a classifier normalizes the pooled output

    def __post_init__(self):
        self._check_values()
        self._check_agreement()

    @classmethod
    def from_dict(cls, values, source="config"):
        """Make a configuration from a dict of a published or our own JSON file.

        Args:
            values: dict of str to number, str or None.
            source: str, the origin that error messages name.

        Raises:
            UserError: for an unknown field, a value out of range or contradicting fields.
        """
        _check_names(values, source)
        if "vocab_size" not in values:
            raise UserError("{}: the field 'vocab_size' is missing".format(source))
        known = {field.name for field in dataclasses.fields(cls)}
        own = {name: value for name, value in values.items() if name in known}
        family = _family(values, source)
        chosen = dict(_defaults(own, family), **own)
        chosen.update(config_fields.HUGGINGFACE_LAYOUTS.get(family, {}))
        chosen["hidden_act"] = _activation(chosen.get("hidden_act", "gelu"), family, source)
        try:
            return cls(**chosen)
        except UserError as error:
            raise UserError("{}: {}".format(source, error)) from error

    @classmethod
    def from_json_file(cls, path):
        """Read a configuration from a JSON file; errors name the file."""
        return cls.from_dict(files.read_json(path), source=path)

    def to_dict(self):
        """Return the fields as a dict that `from_dict` reads back."""
        fields = dataclasses.asdict(self)
        if not self.pooled_norm:  # few models have this field, and older versions refuse it
            del fields["pooled_norm"]
        return fields

    def to_json_string(self):
        """Return the fields as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @property
    def embedding_width(self):
        """E, or H where the embedding is not factorized."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    def check_sequence_length(self, sequence_length):
        """Raise UserError for a sequence longer than the position table."""
        if sequence_length > self.max_position_embeddings:
            raise UserError(
                "max_seq_length={} is more than max_position_embeddings={} of the model: lower "
                "--max_seq_length to {} or less".format(
                    sequence_length, self.max_position_embeddings, self.max_position_embeddings
                )
            )

    def check_pairs(self):
        """Raise UserError where the model has no row for the second text of a pair."""
        if self.type_vocab_size < 2:
            raise UserError(
                "type_vocab_size={} in the config: pairs of texts, as in pre-training, have the "
                "segments 0 and 1, which need a model of 2".format(self.type_vocab_size)
            )

    def _check_values(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "embedding_size" and value is None:
                continue
            if field.name in FIELD_CHOICES:
                valid = value in FIELD_CHOICES[field.name]
                expected = "one of " + ", ".join(FIELD_CHOICES[field.name])
            elif field.type is bool:
                valid, expected = isinstance(value, bool), "true or false"
            elif field.type is float:
                valid = _is_number(value) and 0 <= value < 1
                expected = "a number of at least 0 and below 1"
            else:
                valid = isinstance(value, int) and not isinstance(value, bool) and value > 0
                expected = "a positive whole number"
            if not valid:
                raise UserError("{}={!r}: expected {}".format(field.name, value, expected))

    def _check_agreement(self):
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                "hidden_size={} is not a multiple of num_attention_heads={}".format(
                    self.hidden_size, self.num_attention_heads
                )
            )
        grouped = self.num_hidden_groups > 1 or self.inner_group_num > 1
        if self.layout != "google" and grouped:
            raise UserError(
                "num_hidden_groups={} and inner_group_num={} exist in layout 'google' only, "
                "not in {!r}".format(self.num_hidden_groups, self.inner_group_num, self.layout)
            )
        if self.layout == "google" and self.ln_type != "postln":
            raise UserError("ln_type='preln' exists in layout 'albert_zh' only, not in 'google'")
        if self.pooled_norm and self.ln_type != "preln":
            raise UserError("pooled_norm=True exists with ln_type='preln' only")
        if self.num_hidden_groups > self.num_hidden_layers:
            raise UserError(
                "num_hidden_groups={} is more than num_hidden_layers={}".format(
                    self.num_hidden_groups, self.num_hidden_layers
                )
            )
        if self.parameter_sharing != "all" and self.num_hidden_groups > 1:
            raise UserError(
                "parameter_sharing={!r} and num_hidden_groups={} contradict: groups already decide "
                "which layers share".format(self.parameter_sharing, self.num_hidden_groups)
            )


FIELD_CHOICES = {
    "hidden_act": ("gelu", "relu", "tanh", "linear"),
    "layout": ("albert_zh", "google"),
    "ln_type": ("postln", "preln"),
    "parameter_sharing": ("all", "attention", "ffn", "none"),
}


def _check_names(values, source):
    """Raise UserError for unknown fields, and for values of `Fixed` that do not exist here."""
    known = {field.name for field in dataclasses.fields(AlbertConfig)}
    published = config_fields.IGNORED.union(config_fields.FIXED, ["model_type"])
    for name in values:
        if name not in known and name not in published:
            near = difflib.get_close_matches(name, known, 1)
            hint = "; did you mean {!r}?".format(near[0]) if near else ""
            raise UserError("{}: unknown field {!r}{}".format(source, name, hint))
    for name, fixed in config_fields.FIXED.items():
        if name in values and values[name] not in fixed.values:
            raise UserError(
                "{}: {}={!r} ({}) does not exist here, where it is {!r}: this model cannot be "
                "used".format(source, name, values[name], fixed.effect, fixed.values[0])
            )


def _family(values, source):
    """Return the model_type of a file of Hugging Face, None for any other file."""
    family = values.get("model_type")
    if family not in (None,) + tuple(config_fields.HUGGINGFACE_DEFAULTS):
        raise UserError("{}: model_type {!r}, not albert or bert".format(source, family))
    return family


def _defaults(own, family):
    """Return the values that a file leaves out: the defaults of the code that wrote the file."""
    if family:
        return config_fields.HUGGINGFACE_DEFAULTS[family]
    if not any(name in own for name in config_fields.MARKS_OF_ALBERT):
        return {"layout": "albert_zh", "parameter_sharing": "none"}
    return {"layout": "google" if "num_hidden_groups" in own else "albert_zh"}


def _activation(name, family, source):
    """Return our name of a file's activation."""
    names = config_fields.ACTIVATIONS
    if family and name not in names:
        raise UserError(
            "{}: hidden_act {!r} does not exist here: there is {} only; if it was trained with the "
            "tanh approximation of gelu, as all published ALBERT were, write gelu_new there".format(
                source, name, ", ".join(sorted(names))
            )
        )
    return names.get(name, name) if isinstance(name, str) else name


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
