"""Class counts, examples that occur twice, and samples."""

import collections

import pytest

from finetuning import data_report
from finetuning.tasks import Example


def pairs(*rows):
    return [Example(str(i), *row) for i, row in enumerate(rows)]


TRAIN = pairs(("天", "地", "1"), ("人", "马", "0"), ("天", "地", "1"), ("天", "地", "0"))
DEV = pairs(("天", "地", "0"), ("地", "天", "1"), ("天", None, "1"))


def test_class_table_counts_and_shares():
    counts = {
        "train": data_report.class_counts(TRAIN, ("0", "1", "好")),
        "test": data_report.class_counts(pairs(("天", "地", None)), ("0", "1", "好")),
    }
    assert counts["train"] == {"0": 2, "1": 2, "好": 0}
    assert data_report.class_table(counts) == (
        "label  train   share  test  share\n"
        "0          2   50.0%     0      -\n"
        "1          2   50.0%     0      -\n"
        "好         0    0.0%     0      -\n"
        "all        4  100.0%     0      -\n"
    )


def test_duplicates_and_overlap_are_counted_and_told(caplog):
    with caplog.at_level("INFO", logger="absl"):
        found = data_report.log_data(("0", "1"), {"train": TRAIN, "dev": DEV})
    assert found == {
        "classes": {"train": {"0": 2, "1": 2}, "dev": {"0": 1, "1": 2}},
        "duplicates_in_train": 2,
        "train_dev_overlap": 1,
    }
    assert "DUPLICATES: 2 of 4" in caplog.text and "1 texts have more than one" in caplog.text
    assert "OVERLAP: 1 of 3 dev examples (33.3%)" in caplog.text
    assert "label  train" in caplog.text


def test_nothing_is_told_of_sound_data(caplog):
    with caplog.at_level("WARNING", logger="absl"):
        found = data_report.log_data(("0", "1"), {"dev": DEV})
    assert found == {"classes": {"dev": {"0": 1, "1": 2}}}
    assert data_report.duplicates(DEV) == data_report.overlap(TRAIN[1:2], DEV) == 0
    assert not caplog.records


@pytest.mark.parametrize("count", [None, 1000, 1001])
def test_a_sample_of_all_is_all(count):
    examples = list(range(1000))
    assert data_report.sample_examples(examples, count, 1) == examples


def test_samples_are_seeded_in_order_and_part_of_larger_ones():
    examples = list(range(1000))
    small = data_report.sample_examples(examples, 100, 7)
    assert small == data_report.sample_examples(examples, 100, 7) == sorted(set(small))
    assert len(small) == 100
    assert set(small) < set(data_report.sample_examples(examples, 500, 7))
    assert small != data_report.sample_examples(examples, 100, 8)


def test_samples_take_every_example_equally_often():
    counts = collections.Counter()
    for seed in range(2000):
        counts.update(data_report.sample_examples(list("0123456789"), 3, seed))
    # 600 expected, the deviation is sqrt(2000 * 0.3 * 0.7) = 20.5.
    assert all(abs(count - 600) < 100 for count in counts.values()) and len(counts) == 10
