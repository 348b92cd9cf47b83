"""Outputs of batches come back in the order of the rows."""

import numpy as np
import pytest

from common import progress
from finetuning import row_outputs

PROBABILITIES = np.array([[0.25, 0.75], [0.9, 0.1], [0.4, 0.6]], np.float32)


class Runner:
    """Predicts as an Estimator does: batches of two, the longest examples first."""

    def __init__(self, order):
        self.order = order

    def predict(self, input_fn, checkpoint_path, yield_single_examples):
        assert (input_fn, checkpoint_path, yield_single_examples) == ("input", "best", False)
        for i in range(0, len(self.order), 2):
            index = np.array(self.order[i : i + 2])
            yield {"row_index": index, "probabilities": PROBABILITIES[index]}


def test_probabilities_come_back_in_order():
    found = row_outputs.predict(Runner([2, 0, 1, -1]), "input", 3, "best")
    assert list(found) == ["probabilities"]
    np.testing.assert_array_equal(found["probabilities"], PROBABILITIES)


@pytest.mark.parametrize("order", [[2, 0], [2, 0, 1, 1], [-1, -1]])
def test_a_prediction_that_is_missing_is_a_defect(order):
    with pytest.raises(RuntimeError, match="predictions for 3 rows"):
        row_outputs.predict(Runner(order), "input", 3, "best")


def test_outputs_of_pieces_are_filled_up_with_zeros():
    class Pieces:
        def predict(self, *_, **__):
            for rows, length in (([1, 0], 3), ([2, -1], 2)):
                output = np.full([2, length, 2], 1 + rows[0], np.float32)
                yield {"row_index": np.array(rows), "logits": output}

    found = row_outputs.predict(Pieces(), None, 3)["logits"]
    assert found.dtype == np.float32
    assert found[..., 0].tolist() == [[2, 2, 2], [2, 2, 2], [3, 3, 0]]


def test_the_log_says_how_many_rows_are_predicted(monkeypatch):
    shown = []
    monkeypatch.setattr(progress, "Lines", lambda unit: lambda *numbers: shown.append(numbers))
    row_outputs.predict(Runner([2, 0, 1, -1]), "input", 3, "best")
    assert shown == [(2, 3), (3, 3)]
