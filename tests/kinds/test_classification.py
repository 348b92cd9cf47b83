"""Classification as a kind of task: what it reads with the flags of a run."""

import argparse

import pytest

from common.errors import UserError
from kinds.classification import Classification


@pytest.mark.parametrize("header, test_header", [("auto", "yes"), ("no", "yes"), ("yes", None)])
def test_the_test_file_alone_may_have_a_header(header, test_header, tmp_path):
    """The test file has texts without labels, and names of columns that are not known."""
    (tmp_path / "train.tsv").write_text("天\t地\t1\n地\t天\t0\n", encoding="utf-8")
    (tmp_path / "test.tsv").write_text("原文\t译文\n天\t地\n", encoding="utf-8")
    args = argparse.Namespace(
        task_name="lcqmc",
        labels=None,
        do_train=True,
        data_dir=str(tmp_path),
        skip_bad_rows=False,
        header=header,
        test_header=test_header,
        max_train_examples=None,
        random_seed=1,
    )
    if header == "yes":
        with pytest.raises(UserError, match="row 1: .* give --test_header=yes instead"):
            Classification().read(args, ["train", "test"], [])
    else:
        data, _ = Classification().read(args, ["train", "test"], [])
        assert {split: len(rows) for split, rows in data.examples.items()} == {
            "train": 2,
            "test": 1,
        }
