"""Class counts, examples that occur twice, and samples."""

import collections

import pytest
from sentencepiece_model import train_sentencepiece

import tokenization
from common.errors import UserError
from finetuning_data import data_report
from finetuning_data.tasks import Example


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
    assert data_report.count_duplicates(DEV) == data_report.count_overlap(TRAIN[1:2], DEV) == 0
    assert not caplog.records


def test_a_train_file_of_one_class_is_told(caplog):
    data_report.log_data(("0", "1"), {"train": TRAIN[::2]})
    assert "ONE CLASS: all 2 train examples have the label '1'" in caplog.text
    caplog.clear()
    data_report.log_data(("0", "1"), {"train": TRAIN, "dev": DEV[:1]})
    assert "ONE CLASS" not in caplog.text


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


PIECES = list(tokenization.MARKERS) + ["天", "地", "apple", "##s", "phone"]


@pytest.fixture
def vocab_file(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return str(path)


def test_unknown_pieces_are_counted(vocab_file, monkeypatch):
    texts = ["天魑地", "魑 Apples", "", "魅"]
    for size in (1, 3, 100):
        monkeypatch.setattr(data_report, "CHUNK_TEXTS", size)
        pieces = data_report.UnknownPieces(tokenization.FullTokenizer(vocab_file))
        pieces.add(texts)
        assert (pieces.num_unknown, pieces.num_pieces) == (3, 7)
        assert "42.9% of the pieces of dev are [UNK]; the commonest are '魑' 2, '魅' 1;" in (
            pieces.sentence("dev")
        )
    assert data_report.UnknownPieces(tokenization.FullTokenizer(vocab_file)).share == 0


def test_every_split_has_its_share(vocab_file, caplog):
    tokenizer = tokenization.FullTokenizer(vocab_file)
    splits = {"train": ["天地"] * 50, "dev": ["天" * 40 + "魑"], "test": ["天"] * 199 + ["魑"]}
    with caplog.at_level("INFO", logger="absl"):
        _, line = data_report.check_unknown_pieces(splits, tokenizer, 0.3)
    assert line == "unknown pieces: 0.00% of train, 2.44% of dev, 0.50% of test"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "2.4% of the pieces of dev" in warnings[0]


def test_a_vocabulary_that_does_not_fit_ends_the_run_unless_told(vocab_file):
    """Text with capital letters is not lower-cased; each flag in the message prevents the error."""
    splits = {"train": ["Apple 天", "Phone 地"]}
    cased = tokenization.FullTokenizer(vocab_file, do_lower_case=False)
    with pytest.raises(UserError) as error:
        data_report.check_unknown_pieces(splits, cased, 0.3)
    assert "50.0% of the pieces of train are [UNK]; the commonest are 'Apple' 1" in str(error.value)
    assert "--do_lower_case=True, or give --max_unknown_share=1" in str(error.value)
    data_report.check_unknown_pieces(splits, cased, 1.0)
    lower = tokenization.FullTokenizer(vocab_file, do_lower_case=True)
    assert data_report.check_unknown_pieces(splits, lower, 0.0)[1].endswith("0.00% of train")


def test_sentencepiece_of_another_language_is_refused(tmp_path):
    model = train_sentencepiece(tmp_path / "spiece.model", ["[CLS]", "[SEP]", "[MASK]"])
    tokenizer = tokenization.FullTokenizer(None, spm_model_file=model)
    korean = {"train": ["오늘 날씨가 좋다", "오늘"]}
    with pytest.raises(UserError, match="the commonest are '오' 2|use the vocabulary of a model"):
        data_report.check_unknown_pieces(korean, tokenizer, 0.3)
    english = {"train": ["In 2019, the model had shared layers."]}
    assert data_report.check_unknown_pieces(english, tokenizer, 0.0)[1].endswith("0.00% of train")


@pytest.mark.parametrize(
    "labels, words",
    [
        (["体育|财经", "财经", "体育", "财经|体育"], "2 of the 4 labels, such as '体育|财经'"),
        (["a, b", "b, c", "a", "c"], "such as 'a, b', seem to be several labels with ','"),
        (["{:.3f}".format(i / 7) for i in range(20)], "SCORES: the 20 labels are numbers, such"),
        (["A/B测试", "体育/足球", "体育/篮球", "New York", "New Jersey"], None),
        (["0.5", "1.0", "1.5"], None),
        ([str(i) for i in range(119)], None),
        (["|", "||", ","], None),
    ],
)
def test_labels_that_are_no_classes_are_told(labels, words, caplog):
    data_report.warn_of_odd_labels(tuple(labels), 1000)
    assert (words in caplog.text) if words else not caplog.text


def test_of_many_texts_a_sample_is_counted(vocab_file, monkeypatch):
    monkeypatch.setattr(data_report, "SAMPLED_TEXTS", 10)
    tokenizer = tokenization.FullTokenizer(vocab_file)
    texts = ["天"] * 95 + ["魑"] * 5
    _, line = data_report.check_unknown_pieces({"train": texts}, tokenizer, 0.3)
    assert line == "unknown pieces: 0.00% of train"
    assert data_report.texts_of(TRAIN[:1] + DEV[2:]) == ["天", "天", "地"]
