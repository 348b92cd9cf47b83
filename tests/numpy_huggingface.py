"""What BERT and ALBERT of Hugging Face compute, in numpy and float64, from names and config alone.

Independent of the code under test: this module uses no names or tables of that code.
"""

import numpy as np

ACTIVATIONS = {
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "linear": lambda x: x,
}
# model_type -> names within a layer: query, key, value, out, its norm, wide, narrow, its norm.
LAYERS = {
    "albert": [
        "attention.query",
        "attention.key",
        "attention.value",
        "attention.dense",
        "attention.LayerNorm",
        "ffn",
        "ffn_output",
        "full_layer_layer_norm",
    ],
    "bert": [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "attention.output.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    ],
}
TRANSFORMS = {"albert": "predictions.", "bert": "cls.predictions.transform."}
BIASES = {"albert": "predictions.bias", "bert": "cls.predictions.bias"}
ORDERS = {"albert": "sop_classifier.classifier", "bert": "cls.seq_relationship"}
POOLERS = {"albert": "albert.pooler", "bert": "bert.pooler.dense"}


class Model:
    """A model of a config.json and its parameters, a dict of name to array."""

    def __init__(self, config, parameters):
        self.config, self.kind = config, config["model_type"]
        self.act = ACTIVATIONS[config["hidden_act"]]
        self.parameters = {name: x.astype(np.float64) for name, x in parameters.items()}

    def dense(self, x, name):
        return x @ self.parameters[name + ".weight"].T + self.parameters[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return x * self.parameters[name + ".weight"] + self.parameters[name + ".bias"]

    def layer(self, x, mask, prefix):
        names = [prefix + name for name in LAYERS[self.kind]]
        batch, length, width = x.shape
        heads = self.config["num_attention_heads"]

        def split(name):
            return self.dense(x, name).reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)

        query, key, value = map(split, names[:3])
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(width // heads)
        scores = np.where(mask[:, None, None] > 0, scores, -1e9)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        context = (weights @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = self.norm(x + self.dense(context, names[3]), names[4])
        return self.norm(x + self.dense(self.act(self.dense(x, names[5])), names[6]), names[7])

    def layers(self):
        """Yield the prefixes of the layers in the order in which they are computed."""
        number = self.config["num_hidden_layers"]
        for i in range(number):
            if self.kind == "bert":
                yield "bert.encoder.layer.{}.".format(i)
                continue
            group = int(i / (number / self.config["num_hidden_groups"]))
            for inner in range(self.config["inner_group_num"]):
                yield "albert.encoder.albert_layer_groups.{}.albert_layers.{}.".format(group, inner)

    def __call__(self, ids, mask, segments):
        """Return a dict of the outputs of all heads that have parameters in the model."""
        prefix = self.kind + ".embeddings."
        words = self.parameters[prefix + "word_embeddings.weight"]
        x = words[ids] + self.parameters[prefix + "position_embeddings.weight"][: ids.shape[1]]
        x = self.norm(
            x + self.parameters[prefix + "token_type_embeddings.weight"][segments],
            prefix + "LayerNorm",
        )
        if self.kind == "albert":
            x = self.dense(x, "albert.encoder.embedding_hidden_mapping_in")
        for name in self.layers():
            x = self.layer(x, mask, name)
        found = {"sequence_output": x}
        if "qa_outputs.weight" in self.parameters:
            found["spans"] = self.dense(x, "qa_outputs").reshape(-1, 2)
        if POOLERS[self.kind] + ".weight" not in self.parameters:
            if "classifier.weight" in self.parameters:
                logits = self.dense(x, "classifier")
                found["labels"] = logits.reshape(-1, logits.shape[-1])
            return found
        pooled = np.tanh(self.dense(x[:, 0], POOLERS[self.kind]))
        if "classifier.weight" in self.parameters:
            is_choice = len(self.parameters["classifier.weight"]) == 1
            found["choice" if is_choice else "classifier"] = self.dense(pooled, "classifier")
        if BIASES[self.kind] in self.parameters:
            transform = TRANSFORMS[self.kind]
            hidden = self.act(self.dense(x, transform + "dense"))
            hidden = self.norm(hidden, transform + "LayerNorm")
            logits = hidden @ words.T + self.parameters[BIASES[self.kind]]
            found["masked_lm"] = logits.reshape(-1, logits.shape[-1])
            found["sentence_order"] = self.dense(pooled, ORDERS[self.kind])
        return found
