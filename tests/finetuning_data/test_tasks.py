"""Tasks: real file formats, labels, bad rows."""

import csv
import json
import re
import subprocess
import sys

import pytest

from common import files
from common.errors import UserError
from finetuning_data import tasks

LCQMC = tasks.TASKS["lcqmc"]
XNLI = tasks.TASKS["xnli"]
TNEWS = tasks.TASKS["tnews"]
OCNLI = tasks.TASKS["ocnli"]
XNLI_HEADER = (
    "language\tgold_label\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
    "sentence2_parse\tsentence1\tsentence2\tpromptID\tpairID\tgenre\tlabel1\tlabel2\tlabel3\t"
    "label4\tlabel5\tsentence1_tokenized\tsentence2_tokenized\tmatch"
)


def write(path, *rows, end="\n", encoding="utf-8"):
    """Write rows, str or what becomes a line of JSON; returns the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_bytes("".join(text + end for text in texts).encode(encoding))
    return str(path.parent)


def xnli_row(language, label, text_a, text_b):
    cells = ["-"] * len(XNLI_HEADER.split("\t"))
    cells[:2] = language, label
    cells[6:8] = text_a, text_b
    return "\t".join(cells)


def wsc_row(text, span1, index1, span2, index2, **more):
    target = {"span1_text": span1, "span1_index": index1, "span2_text": span2}
    return dict({"text": text, "target": dict(target, span2_index=index2)}, **more)


def ocnli_row(text_a, text_b, **more):
    return dict({"level": "easy", "sentence1": text_a, "sentence2": text_b, "genre": "tv"}, **more)


def fields(examples):
    return [example[1:] for example in examples]


# Task -> (split, name of the file, rows as they are published, the examples of these rows).
REAL_FILES = {
    "lcqmc_pair": [
        ("train", "train.tsv", ["天\t地\t1", "人\t马\t0"], [("天", "地", "1"), ("人", "马", "0")]),
        ("dev", "dev.txt", ["text_a\ttext_b\tlabel", "天\t地\t1"], [("天", "地", "1")]),
        ("test", "test.tsv", ["天\t地"], [("天", "地", None)]),
    ],
    "bq": [
        ("train", "train.tsv", ["天\t地\t1"], [("天", "地", "1")]),
        (
            "dev",
            "dev.json",
            [{"gold_label": "0", "sentence1": "天", "sentence2": "地", "ID": "7"}],
            [("天", "地", "0")],
        ),
        ("test", "test.tsv", ["天\t地"], [("天", "地", None)]),
    ],
    "xnli": [
        (
            "train",
            "multinli/multinli.train.zh.tsv",
            ["premise\thypo\tlabel", "天\t地\tcontradictory"],
            [("天", "地", "contradiction")],
        ),
        (
            "dev",
            "xnli.dev.tsv",
            [XNLI_HEADER, xnli_row("zh", "neutral", "天", "地")],
            [("天", "地", "neutral")],
        ),
        (
            "test",
            "test.tsv",
            ["text_a\ttext_b\tlabel", "天\t地\tentailment"],
            [("天", "地", "entailment")],
        ),
    ],
    "cmnli": [
        (
            "train",
            "train.json",
            [
                {"sentence1": "天", "sentence2": "地", "label": "neutral"},
                {"sentence1": "天", "sentence2": "人", "label": "-"},
            ],
            [("天", "地", "neutral")],
        ),
        (
            "dev",
            "dev.json",
            [{"sentence1": "天", "sentence2": "地", "label": "entailment"}],
            [("天", "地", "entailment")],
        ),
        (
            "test",
            "test.json",
            [{"id": 0, "sentence1": "天", "sentence2": "地"}],
            [("天", "地", None)],
        ),
    ],
    "ocnli": [
        (
            "train",
            "train.50k.json",
            [ocnli_row("天", "地", label="neutral", label0=None), ocnli_row("天", "人", label="-")],
            [("天", "地", "neutral")],
        ),
        ("dev", "dev.json", [ocnli_row("天", "地", label="neutral")], [("天", "地", "neutral")]),
        ("test", "test.json", [ocnli_row("天", "地", id=0)], [("天", "地", None)]),
    ],
    "afqmc": [
        (
            "train",
            "train.json",
            [{"sentence1": "天", "sentence2": "地", "label": "0"}],
            [("天", "地", "0")],
        ),
        ("dev", "dev.txt", ["天\t地\t1"], [("天", "地", "1")]),
        (
            "test",
            "test.json",
            [{"id": 0, "sentence1": "天", "sentence2": "地"}],
            [("天", "地", None)],
        ),
    ],
    "tnews": [
        (
            "train",
            "train.json",
            [{"label": "108", "label_desc": "news_edu", "sentence": "天", "keywords": ""}],
            [("天", None, "news_edu")],
        ),
        ("dev", "dev.tsv", ["天\tnews_game"], [("天", None, "news_game")]),
        (
            "test",
            "test1.1.json",
            [{"id": 0, "sentence": "天", "keywords": "人"}],
            [("天", None, None)],
        ),
    ],
    "iflytek": [
        (
            "train",
            "train.json",
            [{"label": "118", "label_des": "其他", "sentence": "天"}],
            [("天", None, "118")],
        ),
        (
            "dev",
            "dev.json",
            [{"label": 0, "label_des": "打车", "sentence": "天"}],
            [("天", None, "0")],
        ),
        ("test", "test.json", [{"id": 0, "sentence": "天"}], [("天", None, None)]),
    ],
    "csl": [
        (
            "train",
            "train.json",
            [{"id": 1, "abst": "天地人", "keyword": ["天", "地"], "label": "0"}],
            [("天 地", "天地人", "0")],
        ),
        ("dev", "dev.json", [{"abst": "天", "keyword": ["天"], "label": "1"}], [("天", "天", "1")]),
        ("test", "test.json", [{"id": 2, "abst": "天", "keyword": ["天"]}], [("天", "天", None)]),
    ],
    "cluewsc2020": [
        (
            "train",
            "train.json",
            [wsc_row(" 小猫饿了，它在叫", "小猫", 1, "它", 6, idx=3, label="true")],
            [("_小猫_饿了，[它]在叫", None, "true")],
        ),
        (
            "dev",
            "dev.json",
            [wsc_row("它在叫，因为小猫饿了", "小猫", 6, "它", 0, idx=4, label="false")],
            [("[它]在叫，因为_小猫_饿了", None, "false")],
        ),
        (
            "test",
            "test.json",
            [
                wsc_row("小猫它叫", "小猫", 0, "它", 2, id=0),
                wsc_row("它小猫", "小猫", 1, "它", 0, id=1),
            ],
            [("_小猫_[它]叫", None, None), ("[它]_小猫_", None, None)],
        ),
    ],
    "chnsenticorp": [
        ("train", "train.tsv", ["label\ttext_a", '1\t"天"地'], [('"天"地', None, "1")]),
        ("dev", "dev.tsv", ["qid\tlabel\ttext_a", "0\t0\t天"], [("天", None, "0")]),
        ("test", "test.tsv", ["qid\ttext_a", "0\t天"], [("天", None, None)]),
    ],
    "paws-x": [
        (
            "train",
            "translated_train.tsv",
            ["id\tsentence1\tsentence2\tlabel", "1\t天\t地\t0"],
            [("天", "地", "0")],
        ),
        (
            "dev",
            "dev_2k.tsv",
            ["id\tsentence1\tsentence2\tlabel", "1\t天\t地\t1"],
            [("天", "地", "1")],
        ),
        (
            "test",
            "test_2k.tsv",
            ["id\tsentence1\tsentence2\tlabel", "1\t天\t地\t1"],
            [("天", "地", "1")],
        ),
    ],
    "sentence": [
        ("train", "train.txt", ["天\t好", "地\t坏"], [("天", None, "好"), ("地", None, "坏")]),
        ("dev", "dev.tsv", ["label\ttext", "好\t天"], [("天", None, "好")]),
        ("test", "test.jsonl", [{"text": "天"}], [("天", None, None)]),
    ],
    "sentence_pair": [
        ("train", "train.tsv", ["query\treply\tlabel", "天\t地\t好"], [("天", "地", "好")]),
        ("dev", "dev.jsonl", [{"text_a": "天", "text_b": "地", "label": 2}], [("天", "地", "2")]),
        ("test", "test.tsv", ["text_a\ttext_b", "天\t地"], [("天", "地", None)]),
    ],
}


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_every_task_reads_its_real_files(name, tmp_path):
    task = tasks.get_task(name.upper())
    cases = REAL_FILES[task.name]
    assert [split for split, _, _, _ in cases] == list(tasks.SPLITS)
    for split, file_name, rows, expected in cases:
        assert file_name in task.files[split]
        write(tmp_path / file_name, *rows)
        assert fields(tasks.load_examples(task, tmp_path, split)) == expected
        assert tasks.find_file(task, tmp_path, split) == str(tmp_path / file_name)


def test_the_registry_is_the_field_s():
    labels = {name: task.labels for name, task in tasks.TASKS.items()}
    assert labels.pop("lcqmc") == labels.pop("lcqmc_pair") == ("0", "1")
    assert len(labels.pop("iflytek")) == 119 and len(set(labels.pop("tnews"))) == 15
    for name in ("xnli", "cmnli", "ocnli"):
        assert labels.pop(name) == ("contradiction", "entailment", "neutral")
    assert labels.pop("cluewsc2020") == ("true", "false")
    assert labels.pop("sentence") == labels.pop("sentence_pair") == ()
    assert set(labels) == {"bq", "afqmc", "csl", "chnsenticorp", "paws-x"}
    assert set(labels.values()) == {("0", "1")}


def test_codes_and_names_of_tnews_are_the_same_labels(tmp_path):
    codes = [code for code in range(100, 117) if code not in (105, 111)]
    write(tmp_path / "train.json", *[{"label": code, "sentence": "天"} for code in codes])
    found = [example.label for example in tasks.load_examples(TNEWS, tmp_path, "train")]
    assert tuple(found) == TNEWS.labels
    assert (found[0], found[5], found[-1]) == ("news_story", "news_house", "news_game")
    write(tmp_path / "dev.json", {"label": "105", "sentence": "天"})
    with pytest.raises(UserError, match="row 1: label '105' is not one of .* news_story"):
        tasks.load_examples(TNEWS, tmp_path, "dev")


def test_the_largest_train_set_of_ocnli_is_taken(tmp_path):
    for size in ("10k", "30k"):
        row = ocnli_row("天", size, label="neutral")
        write(tmp_path / "train.{}.json".format(size), row)
    assert tasks.load_examples(OCNLI, tmp_path, "train")[0].text_b == "30k"


def test_undecided_rows_are_counted(tmp_path, caplog):
    rows = [ocnli_row("天", "地", label=label) for label in ("-", "neutral", "-")]
    write(tmp_path / "dev.json", *rows)
    write(tmp_path / "test.json", *rows)
    with caplog.at_level("INFO", logger="absl"):
        assert len(tasks.load_examples(OCNLI, tmp_path, "dev")) == 1
    assert "2 rows of" in caplog.text and "left out" in caplog.text
    found = tasks.load_examples(OCNLI, tmp_path, "test")  # a test file keeps every row
    assert [example.label for example in found] == [None, "neutral", None]


def test_ids_are_those_of_the_file_else_positions(tmp_path):
    pair = {"sentence1": "天", "sentence2": "地"}
    write(tmp_path / "test.json", dict(pair, id=7), dict(pair, id="a3"), pair)
    found = tasks.load_examples(tasks.TASKS["afqmc"], tmp_path, "test")
    assert [example.guid for example in found] == ["7", "a3", "2"]
    write(tmp_path / "dev.tsv", "qid\tlabel\ttext_a", "5\t1\t天", "", "9\t1\t天")
    found = tasks.load_examples(tasks.TASKS["chnsenticorp"], tmp_path, "dev")
    assert [example.guid for example in found] == ["5", "9"]
    write(tmp_path / "test.txt", "天\t地", "", "人\t马")
    found = tasks.load_examples(LCQMC, tmp_path, "test")
    assert [example.guid for example in found] == ["0", "2"]


@pytest.mark.parametrize("split, is_told", [("test", True), ("train", False)])
def test_rows_of_one_id_are_kept_and_told(split, is_told, tmp_path, caplog):
    """In published files all pairs of a question have the id of the question."""
    write(tmp_path / (split + ".tsv"), "qid\ttext_a\ttext_b\tlabel", *["7\t天\t地\t1"] * 3)
    with caplog.at_level("WARNING", logger="absl"):
        found = tasks.load_examples(LCQMC, tmp_path, split)
    assert [example.guid for example in found] == ["7"] * 3
    assert ("REPEATED IDS: 1 ids of {}".format(tmp_path) in caplog.text) == is_told


@pytest.mark.parametrize("label", [None, "", "-1", -1])
def test_what_stands_for_no_label_in_a_test_file(label, tmp_path):
    row = {"sentence1": "天", "sentence2": "地", "label": label}
    write(tmp_path / "test.json", row)
    write(tmp_path / "dev.json", row)
    assert fields(tasks.load_examples(LCQMC, tmp_path, "test")) == [("天", "地", None)]
    with pytest.raises(UserError, match="row 1: "):
        tasks.load_examples(LCQMC, tmp_path, "dev")


def test_minus_one_is_a_label_where_a_task_has_it(tmp_path):
    write(tmp_path / "test.tsv", "天\t-1")
    task = tasks.get_task("sentence", labels=["-1", "1"])
    assert tasks.load_examples(task, tmp_path, "test")[0].label == "-1"


@pytest.mark.parametrize("labels, is_told", [("00", True), ("01", False), ("0", False)])
def test_a_test_file_of_one_label_is_told(labels, is_told, tmp_path, caplog):
    write(tmp_path / "test.tsv", *["天\t地\t" + label for label in labels])
    with caplog.at_level("WARNING", logger="absl"):
        assert len(tasks.load_examples(LCQMC, tmp_path, "test")) == len(labels)
    assert ("ONE LABEL" in caplog.text) == is_told


def test_labels_of_the_user_are_given_or_found(tmp_path, caplog):
    rows = ["{}\t{}".format(i, "好坏中"[i % 3]) for i in range(9)]
    write(tmp_path / "train.tsv", *rows)
    task = tasks.get_task("sentence")
    train = tasks.load_examples(task, tmp_path, "train")
    found = tasks.with_labels_of(task, train)
    assert found.labels == tuple(sorted("好坏中"))
    assert "right one" not in caplog.text
    given = tasks.get_task("sentence", labels=["坏", "好", "中"])
    assert given.labels == ("坏", "好", "中")
    assert tasks.with_labels_of(given, train) == given
    write(tmp_path / "dev.tsv", "天\t差")
    with pytest.raises(
        UserError, match="row 1: label '差' is not one .*; if it is a class, name all"
    ):
        tasks.load_examples(found, tmp_path, "dev")
    with pytest.raises(UserError, match="all 1 train examples have the label '好'"):
        tasks.with_labels_of(task, train[:1])
    for label in ("1", "1.0", "2"):
        train.append(train[0]._replace(label=label))
    with pytest.raises(UserError, match="have the labels '1' and '1.0': write the same label"):
        tasks.with_labels_of(task, train)
    tasks.with_labels_of(task, train[:3])
    assert "is the label column the right one?" in caplog.text


@pytest.mark.parametrize(
    "name, labels, words",
    [
        ("mrpc", None, "'mrpc' is unknown; the tasks are afqmc, bq, .*, lcqmc, lcqmc_pair, .*xnli"),
        ("lcqmc", ["0", "1"], "lcqmc_pair has its own labels, 0, 1"),
        ("iflytek", ["0", "1"], "18, 19 and 99 more: leave yours out"),
        ("sentence", ["1"], "two or more"),
        ("sentence", ["1", "1 "], "two or more"),
        ("sentence_pair", ["1", ""], "two or more"),
    ],
)
def test_tasks_that_do_not_exist(name, labels, words):
    with pytest.raises(UserError, match=words):
        tasks.get_task(name, labels)


def test_official_xnli_files(tmp_path):
    write(
        tmp_path / "multinli" / "multinli.train.zh.tsv",
        "premise\thypo\tlabel",
        "从 概念 上 看\t产品 和 地理\tneutral",
        "我 们\t你 们\tcontradictory",
    )
    write(
        tmp_path / "xnli.dev.tsv",
        XNLI_HEADER,
        xnli_row("ar", "neutral", "مرحبا", "أمي"),
        xnli_row("zh", "contradiction", "他说，妈妈，我回来了。", "他没说一句话。"),
        xnli_row("zh", "entailment", "他说。", "他说了。"),
    )
    assert fields(tasks.load_examples(XNLI, tmp_path, "train")) == [
        ("从 概念 上 看", "产品 和 地理", "neutral"),
        ("我 们", "你 们", "contradiction"),
    ]
    assert tasks.load_examples(XNLI, tmp_path, "dev") == [
        ("1", "他说，妈妈，我回来了。", "他没说一句话。", "contradiction"),
        ("2", "他说。", "他说了。", "entailment"),
    ]


@pytest.mark.parametrize(
    "task, rows, message",
    [
        (LCQMC, ["a\tb\t1", "a\tb\t2"], "row 2: label '2' is not one of the labels of task"),
        (LCQMC, ["a\tb\t1", "a\tb\t"], "row 2: there is no label; only a test file may lack it"),
        (XNLI, ["a\tb\tneutral", "a\tb\t-"], "contradiction, entailment, neutral"),
        (LCQMC, ["a\t \t1"], "row 1: text_b is empty"),
        (LCQMC, [], "train.tsv: no rows"),
        (LCQMC, ["text_a\ttext_b\tlabel"], "train.tsv: no rows"),
        (XNLI, [XNLI_HEADER, xnli_row("en", "neutral", "a", "b")], "no rows with language 'zh'"),
    ],
)
def test_bad_rows_of_tables(task, rows, message, tmp_path):
    write(tmp_path / "train.tsv", *rows)
    with pytest.raises(UserError) as error:
        tasks.load_examples(task, tmp_path, "train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, row, message",
    [
        ("afqmc", {"sentence1": "天", "label": "0"}, "no text_b: a column must be named text_b or"),
        ("afqmc", {"sentence1": 1, "sentence2": "地", "label": "0"}, "text_a is 1, not a text"),
        ("afqmc", {"sentence1": "天", "sentence2": None, "label": "0"}, "text_b is null, not a"),
        ("afqmc", {"sentence1": "天", "sentence2": "地", "label": float("nan")}, "no label"),
        (
            "afqmc",
            {"sentence1": "天", "sentence2": "地"},
            "分类; only a test file may lack it",
        ),
        ("afqmc", {"sentence1": "天", "sentence2": "地", "label": ""}, "there is no label; only"),
        ("afqmc", {"sentence1": "天", "sentence2": "地", "label": ["0"]}, 'label is ["0"], not a'),
        ("afqmc", {"sentence1": "天", "sentence2": "地", "label": 0.5}, "label '0.5' is not one"),
        ("afqmc", {"sentence1": "天", "sentence2": "地", "label": "0", "id": {}}, "id is {}, not"),
        ("iflytek", {"sentence": "天", "label": "119"}, "18, 19 and 99 more"),
        ("csl", {"abst": "天", "label": "0"}, "no keyword: a column must be named keyword; found"),
        ("csl", {"abst": "天", "keyword": "地", "label": "0"}, "keyword is '地', not a list"),
        ("csl", {"abst": "天", "keyword": [1], "label": "0"}, "keyword [1] is not a list of texts"),
        ("csl", {"abst": "天", "keyword": [], "label": "0"}, "text_a is empty"),
        ("cluewsc2020", {"text": "猫它", "label": "true"}, "no target"),
        ("cluewsc2020", {"text": "猫它", "target": [], "label": "true"}, "target is [], not a"),
        (
            "cluewsc2020",
            wsc_row("猫它", "猫", 1, "它", 1, label="true"),
            "span1_index 1 does not fit: span1_text is '猫', and the text has '它' there",
        ),
        (
            "cluewsc2020",
            wsc_row("猫它", "猫", 0, "它", -1, label="true"),
            "span2_index -1 does not",
        ),
        ("cluewsc2020", wsc_row("猫它", "猫", 0, "它", 9, label="true"), "the text has '' there"),
        ("cluewsc2020", wsc_row("猫它", "", 0, "它", 1, label="true"), "span1_text is ''"),
        ("cluewsc2020", wsc_row("猫它", "猫", "0", "它", 1, label="true"), "not a whole number"),
        ("cluewsc2020", wsc_row("猫它", "猫", True, "它", 1, label="true"), "not a whole number"),
        ("cluewsc2020", wsc_row("猫它", "猫", 0, "它", 1, label="yes"), "label 'yes'"),
    ],
)
def test_bad_rows_of_json_lines(name, row, message, tmp_path):
    task = tasks.TASKS[name]
    _, _, [good, *_], _ = REAL_FILES[name][0]
    write(tmp_path / "train.json", good, row)
    with pytest.raises(UserError) as error:
        tasks.load_examples(task, tmp_path, "train")
    assert str(error.value).startswith(str(tmp_path / "train.json") + ", row 2: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_truth_values_and_numbers_are_labels(tmp_path):
    write(tmp_path / "dev.json", wsc_row("猫它", "猫", 0, "它", 1, label=True))
    found = tasks.load_examples(tasks.TASKS["cluewsc2020"], tmp_path, "dev")
    assert fields(found) == [("_猫_[它]", None, "true")]


def test_labels_that_a_program_wrote_as_decimals(tmp_path):
    write(tmp_path / "train.tsv", "天\t地\t1.0", "人\t马\t0.0")
    found = tasks.load_examples(LCQMC, tmp_path, "train")
    assert [example.label for example in found] == ["1", "0"]
    own = tasks.get_task("sentence_pair", labels=["0.0", "1.0"])
    write(tmp_path / "dev.tsv", "天\t地\t1")
    assert tasks.load_examples(own, tmp_path, "dev")[0].label == "1.0"
    write(tmp_path / "train.tsv", "天\t地\t1.5")
    with pytest.raises(UserError, match="label '1.5' is not one of the labels"):
        tasks.load_examples(LCQMC, tmp_path, "train")


def test_bad_rows_are_skipped_counted_and_listed(tmp_path, caplog):
    good = ["天\t地\t1", "人\t马\t0"]
    bad = ["row {}".format(i) for i in range(12)]
    write(tmp_path / "train.tsv", good[0], *bad, good[1])
    remedy = "is there a line break in a text.; --skip_bad_rows=True leaves such rows out"
    with caplog.at_level("WARNING", logger="absl"):
        with pytest.raises(UserError, match=remedy):
            tasks.load_examples(LCQMC, tmp_path, "train")
        with pytest.raises(UserError, match="in a text.$"):  # predict.py has no such flag
            tasks.read_examples(LCQMC, str(tmp_path / "train.tsv"), "test", None)
        found = tasks.load_examples(LCQMC, tmp_path, "train", skip_bad_rows=True)
    assert [(example.guid, example.text_a) for example in found] == [("0", "天"), ("13", "人")]
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("BAD ROWS: 12 of ")
    assert "row 2: found 1 columns ('row 0')" in told and "row 11: found" in told
    assert "row 12" not in told and told.endswith("and 2 more")
    write(tmp_path / "train.tsv", *bad)
    with pytest.raises(UserError, match="row 1: found 1 columns"):
        tasks.load_examples(LCQMC, tmp_path, "train", skip_bad_rows=True)


def test_missing_files_name_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"no dev file.*dev\.tsv, .*dev\.jsonl, .*xnli\.dev\.tsv"):
        tasks.load_examples(XNLI, str(tmp_path), "dev")


def test_file_digest_follows_the_content(tmp_path):
    first, second, third = (tmp_path / name for name in "abc")
    for path, content in ((first, "天"), (second, "天"), (third, "地")):
        path.write_text(content, encoding="utf-8")
    assert files.sha256(str(first)) == files.sha256(str(second))
    assert files.sha256(str(first)) != files.sha256(str(third))


@pytest.mark.parametrize("split, least", [("train", 200), ("dev", 60), ("test", 60)])
@pytest.mark.parametrize("name", ["lcqmc", "xnli"])
def test_shipped_samples_are_read(name, split, least, root):
    data_dir = root / "data" / "{}_sample".format(name)
    examples = tasks.load_examples(tasks.TASKS[name], str(data_dir), split)
    assert len(examples) >= least
    assert {example.label for example in examples} == set(tasks.TASKS[name].labels)


OWN = tasks.TASKS["sentence"]


def test_a_header_of_unknown_words_is_no_class(tmp_path):
    """Each flag that the message names does what it says."""
    rows = ["天\t好", "地\t坏"] * 3
    write(tmp_path / "train.tsv", "", "原文\t打分", *rows)
    with pytest.raises(
        UserError, match="train.tsv, row 2: no other row has the label '打分': "
    ) as e:
        tasks.load_examples(OWN, tmp_path, "train")
    assert "'打分'" in str(e.value)
    assert "--header=yes" in str(e.value) and "--header=no" in str(e.value)
    assert len(tasks.load_examples(OWN, tmp_path, "train", header="yes")) == 6
    assert len(tasks.load_examples(OWN, tmp_path, "train", header="no")) == 7
    # The first row is left out as a bad one, so the second row is not a header.
    write(tmp_path / "train.tsv", "天\t", "地\t一般", *rows)
    assert len(tasks.load_examples(OWN, tmp_path, "train", skip_bad_rows=True)) == 7


@pytest.mark.parametrize(
    "rows",
    [
        ["天\t好", "地\t坏", "人\t一般"],  # a row of every class
        ["天\t好", "地\t坏", "人\t坏", "人\t好"],
        ["文本\t标签", "天\t好", "地\t坏", "人\t坏"],
    ],
)
def test_rare_labels_and_known_headers_are_no_reason_to_stop(rows, tmp_path):
    write(tmp_path / "train.tsv", *rows)
    labels = {example.label for example in tasks.load_examples(OWN, tmp_path, "train")}
    assert labels <= {"好", "坏", "一般"}


def test_an_unknown_label_of_the_first_row_may_be_a_header(tmp_path):
    write(tmp_path / "dev.tsv", "原文\t打分", "天\t好")
    task = OWN._replace(labels=("坏", "好"))
    with pytest.raises(UserError, match="row 1: .*if this row is a header, give --header=yes"):
        tasks.load_examples(task, tmp_path, "dev")
    assert fields(tasks.load_examples(task, tmp_path, "dev", header="yes")) == [("天", None, "好")]


def test_columns_of_qbqtc(tmp_path):
    row = {"id": 3, "query": "天", "title": "地", "label": "2"}
    write(tmp_path / "train.json", row, dict(row, label="0"))
    found = tasks.load_examples(tasks.TASKS["sentence_pair"], tmp_path, "train")
    assert fields(found) == [("天", "地", "2"), ("天", "地", "0")] and found[0].guid == "3"


@pytest.mark.parametrize(
    "name, rows, message",
    [
        (
            "sentence",
            ["好\t天{}", "坏\t地{}"],
            "4 different labels, such as '地0', but 2 different",
        ),
        ("sentence_pair", ["好\t天{}\t人", "坏\t地{}\t人"], "2 different values of text_a: "),
        (
            "lcqmc",
            ["1\t天{}\t人", "0\t地{}\t人"],
            "row 1: text_a '1' is one of the labels, and label '人' is not",
        ),
        (
            "chnsenticorp",
            ["天{}\t1", "地{}\t0"],
            "row 1: text_a '1' is one of the labels, and label '天0' is not",
        ),
    ],
)
def test_labels_in_another_column_are_told_with_a_first_row_that_helps(
    name, rows, message, tmp_path
):
    rows = [row.format(i) for i in range(2) for row in rows]
    if name == "sentence_pair":
        rows = [row.replace("人", "人" + str(i)) for i, row in enumerate(rows)]
    write(tmp_path / "train.tsv", *rows)
    task = tasks.TASKS[name]
    with pytest.raises(UserError, match=message) as error:
        tasks.with_labels_of(task, tasks.load_examples(task, tmp_path, "train"))
    assert "--header" not in str(error.value)
    header = re.search(r"first row of the file, (\S+)$", str(error.value)).group(1)
    write(tmp_path / "train.tsv", header.replace("<TAB>", "\t"), *rows)
    examples = tasks.load_examples(task, tmp_path, "train")
    assert len(examples) == 4 and len({example.label for example in examples}) == 2


def test_the_command_that_makes_a_table_of_a_csv_file_works(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    content = '\ufefftext,label\r\n"天,\n地",好\r\n"人\t""马""",坏\r\n'
    (folder / "train.csv").write_bytes(content.encode("utf-8"))
    with pytest.raises(UserError, match="train.csv.* has commas between its columns") as error:
        tasks.load_examples(OWN, str(folder), "train")
    command = str(error.value).split("with tabs: ")[1]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
    found = tasks.load_examples(OWN, str(folder), "train")
    assert fields(found) == [("天, 地", None, "好"), ('人 "马"', None, "坏")]
    (folder / "train.tsv").unlink()
    (folder / "train.csv").rename(folder / "learn.csv")
    with pytest.raises(UserError, match="a b holds learn.csv: rename the file that you mean$"):
        tasks.load_examples(OWN, str(folder), "train")


def test_a_header_is_not_advised_where_the_second_row_has_no_label_either(tmp_path):
    path = tmp_path / "train.tsv"
    for rows, is_advised in (
        (["甲\t乙\t1.5", "丙\t丁\t0.5"], False),
        (["a\tb\tc", "丙\t丁\t0"], True),
    ):
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        with pytest.raises(UserError, match="row 1: label") as error:
            tasks.load_examples(tasks.get_task("lcqmc"), str(tmp_path), "train")
        assert ("--header=yes" in str(error.value)) == is_advised


def write_quoted(folder, quoting, rows):
    folder.mkdir()
    with open(str(folder / "train.tsv"), "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t", quoting=quoting).writerows(rows)
    return str(folder)


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("header", [[], [("text", "label")]])
@pytest.mark.parametrize("text", ["天", '他说"好"\n'])
def test_the_command_that_removes_quotes_works(quoting, header, text, tmp_path):
    rows = header + [("天", 0), (text, 1), ("人", 0)]
    folder = write_quoted(tmp_path / "a b", quoting, rows)
    with pytest.raises(UserError, match="train.tsv, row 1: .* is quoted, as by") as error:
        tasks.load_examples(OWN, folder, "train")
    assert "\n" not in str(error.value)
    command = str(error.value).split("quotes: ")[1].split("; if")[0]
    command = command.replace("NEW_FILE", "new.tsv").replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
    (tmp_path / "new.tsv").replace(tmp_path / "a b" / "train.tsv")
    found = tasks.load_examples(OWN, folder, "train")
    assert fields(found) == [("天", None, "0"), (text.strip(), None, "1"), ("人", None, "0")]


@pytest.mark.parametrize("text", ["天", '他说"好"'])
def test_a_few_quoted_cells_are_told(text, tmp_path, caplog):
    rows = [("天", 0), (text, 1), ("人", 0)]
    folder = write_quoted(tmp_path / "a", csv.QUOTE_MINIMAL, rows)
    with caplog.at_level("WARNING", logger="absl"):
        assert len(tasks.load_examples(OWN, folder, "train")) == 3
    assert ("1 QUOTED CELLS: {}/train.tsv, row 2".format(folder) in caplog.text) == (text != "天")


def test_a_line_end_in_a_quoted_cell_is_found(tmp_path, caplog):
    folder = write_quoted(tmp_path / "a", csv.QUOTE_MINIMAL, [("天", 0), ("一\n二", 1), ("人", 0)])
    with pytest.raises(UserError, match="row 2: .* is quoted, as by"):
        tasks.load_examples(OWN, folder, "train", skip_bad_rows=True)
    folder = write_quoted(tmp_path / "b", csv.QUOTE_MINIMAL, [("天",), ("一\n二",)])
    (tmp_path / "b" / "train.tsv").rename(tmp_path / "b" / "test.tsv")
    assert len(tasks.load_examples(OWN, folder, "test")) == 3  # the lines may be texts
    assert "1 QUOTED CELLS" in caplog.text


def test_labels_of_pandas_with_a_point_and_rows_of_tabs_alone(tmp_path):
    rows = '{"sentence": "天", "label": "108.0"}', '{"sentence": "地", "label": "-1.0"}'
    write(tmp_path / "test.json", *rows)
    found = tasks.load_examples(tasks.TASKS["tnews"], str(tmp_path), "test")
    assert [example.label for example in found] == ["news_edu", None]
    write(tmp_path / "train.tsv", "天\t地\t1", "\t\t", "人\t地\t0")
    assert len(tasks.load_examples(tasks.TASKS["lcqmc_pair"], str(tmp_path), "train")) == 2


@pytest.mark.parametrize(
    "texts",
    [
        ['"天"'],
        ["天", '"地"', "人"],
        ['"天"', '"地', '人"'],
        ['"天"', '"地"', '人"马"'],
        ['"他说"好""', '"地"', '"人"'],
        ['"', '""', "''"],
    ],
)
def test_texts_may_have_quotes(texts, tmp_path):
    rows = ["{}\t{}".format(text, i % 2) for i, text in enumerate(texts)]
    write(tmp_path / "train.tsv", *rows)
    found = tasks.load_examples(OWN, str(tmp_path), "train")
    assert [example.text_a for example in found] == texts


def test_exchanged_names_are_told(tmp_path):
    write(tmp_path / "train.json", {"sentence1": "1", "sentence2": "地", "label": "天"})
    with pytest.raises(UserError, match="label '天' is not: are these two names exchanged.$"):
        tasks.load_examples(LCQMC, str(tmp_path), "train")
