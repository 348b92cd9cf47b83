"""Trains and predicts with a model of Hugging Face, when finetune.py asks for it.

    python benchmarks/finetune_peer.py FOLDER CONFIG PRECISION BATCH_SIZE NUM_LABELS

FOLDER has the arrays of an `encoding.Encoded`: ids.npy, begins.npy, lengths_a.npy, and the answers
of a kind of task: label_ids.npy, targets.npy or answer.npy. The loop does the same as the
examples of transformers (run_glue.py, run_ner.py, run_qa.py): examples in random order, each batch
padded to its longest example, AdamW. For a line `train STEPS` or `predict STEPS`
on standard input, the script prints the examples per second.
"""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
import peer
import torch
import transformers

LEARNING_RATE = 1e-4
IGNORED = -100  # label that a loss of PyTorch does not count


def main():
    """Answer commands until the standard input ends."""
    folder, config_path, precision, batch_size, num_labels = sys.argv[1:]
    loop = Loop(folder, config_path, precision, int(batch_size), int(num_labels))
    for line in sys.stdin:
        part, steps = line.split()
        begin = time.perf_counter()
        loop.run(int(steps), is_training=part == "train")
        print("answer", int(steps) * int(batch_size) / (time.perf_counter() - begin), flush=True)


def token_labels(targets, length):
    """Return the labels of pieces, int [length]; `targets` is as in `kinds.entities`."""
    labels = np.full(length, IGNORED)
    labels[: len(targets)] = np.where(targets > 0, targets - 1, IGNORED)
    return labels


class Loop:
    """A model, its optimizer, and batches in random order."""

    def __init__(self, folder, config_path, precision, batch_size, num_labels):
        names = [name[: -len(".npy")] for name in os.listdir(folder) if name.endswith(".npy")]
        self._arrays = {name: np.load(os.path.join(folder, name + ".npy")) for name in names}
        self._batch_size, self._rng = batch_size, np.random.RandomState(0)
        self._device, self._precision = peer.device(), precision
        config = peer.albert_config(config_path, num_labels=num_labels or 2)
        if "targets" in self._arrays:
            self._model = transformers.AlbertForTokenClassification(config)
        elif "answer" in self._arrays:
            self._model = transformers.AlbertForQuestionAnswering(config)
        else:
            self._model = transformers.AlbertForSequenceClassification(config)
        self._model.to(self._device)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=LEARNING_RATE)

    def run(self, steps, is_training):
        """Compute some batches; with `is_training` the weights change."""
        num_rows = len(self._arrays["begins"]) - 1
        order = self._rng.permutation(num_rows) if is_training else np.arange(num_rows)
        self._model.train(is_training)
        with torch.set_grad_enabled(is_training):
            for step in range(steps):
                places = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
                batch = self._batch(order[places % num_rows], is_training)
                with peer.autocast(self._device, self._precision):
                    outputs = self._model(**batch)
                if is_training:
                    outputs.loss.backward()
                    torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
                    self._optimizer.step()
                    self._optimizer.zero_grad()
        if self._device == "cuda":
            torch.cuda.synchronize()

    def _batch(self, rows, is_training):
        """Return the arguments of the model for some rows, as tensors."""
        arrays = self._arrays
        spans = [slice(arrays["begins"][row], arrays["begins"][row + 1]) for row in rows]
        length = max(span.stop - span.start for span in spans)
        ids, mask, types = (np.zeros([len(rows), length], np.int64) for _ in range(3))
        for place, (row, span) in enumerate(zip(rows, spans)):
            count = span.stop - span.start
            ids[place, :count] = arrays["ids"][span]
            mask[place, :count] = 1
            types[place, arrays["lengths_a"][row] : count] = 1
        batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        if is_training and "targets" in arrays:
            batch["labels"] = np.stack(
                [token_labels(arrays["targets"][span], length) for span in spans]
            )
        elif is_training and "answer" in arrays:
            answers = np.maximum(arrays["answer"][rows], 0)
            batch.update(start_positions=answers[:, 0], end_positions=answers[:, 1])
        elif is_training:
            batch["labels"] = arrays["label_ids"][rows]
        tensors = {name: torch.from_numpy(np.asarray(x, np.int64)) for name, x in batch.items()}
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}


if __name__ == "__main__":
    main()
