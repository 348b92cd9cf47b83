"""Tasks: file formats, and messages for bad rows."""

import os

import pytest

from pipeline import files, tasks
from pipeline.errors import UserError

LCQMC = tasks.TASKS["lcqmc"]
XNLI = tasks.TASKS["xnli"]
XNLI_HEADER = (
    "language\tgold_label\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
    "sentence2_parse\tsentence1\tsentence2\tpromptID\tpairID\tgenre\tlabel1\tlabel2\tlabel3\t"
    "label4\tlabel5\tsentence1_tokenized\tsentence2_tokenized\tmatch"
)


def write(path, *rows, end="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(row + end for row in rows).encode(encoding))
    return str(path.parent)


def xnli_row(language, label, text_a, text_b):
    cells = ["-"] * len(XNLI_HEADER.split("\t"))
    cells[:2] = language, label
    cells[6:8] = text_a, text_b
    return "\t".join(cells)


def fields(examples):
    return [example[1:] for example in examples]


def examples_of(task):
    """One example for each label of a task, in the task's own fields."""
    pair = "text_b" in task.fields
    return [
        tasks.Example(str(i), "今天\u2028“好”吗{}".format(i), "明天'好'" if pair else None, label)
        for i, label in enumerate(task.labels)
    ]


def row_of(task, example, names):
    return "\t".join(getattr(example, name) for name in names)


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
@pytest.mark.parametrize("header", [True, False])
def test_every_task_makes_a_round_trip(name, header, tmp_path):
    task = tasks.get_task(name.upper())
    examples = examples_of(task)
    rows = [row_of(task, example, task.fields) for example in examples]
    rows = ["\t".join(task.fields)] * header + rows
    for split, names in task.files.items():
        for file_name in names:
            data_dir = write(tmp_path / file_name, *rows)
            assert fields(tasks.load_examples(task, tmp_path, split)) == fields(examples)
            os.remove(os.path.join(data_dir, os.path.basename(file_name)))


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_every_task_reads_its_test_split_without_labels(name, tmp_path):
    task = tasks.TASKS[name]
    texts = [field for field in task.fields if field != "label"]
    rows = [row_of(task, example, texts) for example in examples_of(task)]
    unlabelled = fields(example._replace(label=None) for example in examples_of(task))
    for header in ([], ["\t".join(texts)]):
        write(tmp_path / task.files["test"][0], *(header + rows))
        assert fields(tasks.load_examples(task, tmp_path, "test")) == unlabelled
    write(tmp_path / task.files["dev"][0], *rows)
    with pytest.raises(UserError, match="row 1: found"):
        tasks.load_examples(task, tmp_path, "dev")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "rows",
    [
        ["天\t地\t1", "", '"人\t\'马"\t0'],
        ["text_a\ttext_b\tlabel", "天\t地\t1", '"人\t\'马"\t0', " "],
        ["Label\tSentence2\tSentence1", "1\t地\t天", '0\t\'马"\t"人'],
        ["query one\tquery two\tlabel", "天\t地\t1", '"人\t\'马"\t0'],
        ["id\tquestion1\tquestion2\tlabel", "7\t天\t地\t1", '8\t"人\t\'马"\t0'],
    ],
)
def test_spellings_of_one_file(rows, end, encoding, tmp_path):
    write(tmp_path / "dev.txt", *rows, end=end, encoding=encoding)
    expected = [("天", "地", "1"), ('"人', "'马\"", "0")]
    assert fields(tasks.load_examples(LCQMC, tmp_path, "dev")) == expected


def test_a_first_row_of_header_words_with_a_label_is_an_example(tmp_path):
    write(tmp_path / "train.tsv", "text_a\ttext_b\t1")
    assert fields(tasks.load_examples(LCQMC, tmp_path, "train")) == [("text_a", "text_b", "1")]


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
        ("dev-3", "他说，妈妈，我回来了。", "他没说一句话。", "contradiction"),
        ("dev-4", "他说。", "他说了。", "entailment"),
    ]


@pytest.mark.parametrize(
    "task, rows, message",
    [
        (LCQMC, ["a\tb\t1", "a\tb"], "train.tsv, row 2: found 2 columns ('a\\tb'), expected 3"),
        (LCQMC, ["a\tb\t1\t0"], "row 1: found 4 columns"),
        (LCQMC, ["a" * 99], "('{}...')".format("a" * 60)),
        (LCQMC, ["text_a\ttext_b\tlabel\tid", "", "a\tb\t1"], "row 3: found 3 columns"),
        (LCQMC, ["a\tb\t1", "a\tb\t2"], "row 2: label '2' is not one of the labels of task"),
        (LCQMC, ["a\tb\t1", "a\tb\t"], "row 2: label ''"),
        (XNLI, ["a\tb\tneutral", "a\tb\t-"], "contradiction, entailment, neutral"),
        (LCQMC, ["a\t \t1"], "row 1: text_b is empty"),
        (LCQMC, ["text_a\ttext_b", "a\tb"], "row 1: the header"),
        (LCQMC, [], "train.tsv: no rows"),
        (LCQMC, ["text_a\ttext_b\tlabel"], "train.tsv: no rows"),
        (XNLI, [XNLI_HEADER, xnli_row("en", "neutral", "a", "b")], "no rows with language 'zh'"),
    ],
)
def test_bad_rows_name_file_row_and_value(task, rows, message, tmp_path):
    write(tmp_path / "train.tsv", *rows)
    with pytest.raises(UserError) as error:
        tasks.load_examples(task, tmp_path, "train")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_other_encodings_are_named(tmp_path):
    write(tmp_path / "train.tsv", "hello\tworld\t1", "你好\t世界\t1", encoding="gb18030")
    with pytest.raises(UserError, match="row 2: not UTF-8"):
        tasks.load_examples(LCQMC, tmp_path, "train")


def test_missing_files_name_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"no dev file.*dev\.tsv, .*dev\.txt, .*xnli\.dev\.tsv"):
        tasks.load_examples(XNLI, tmp_path, "dev")


def test_unknown_task_names_the_tasks():
    with pytest.raises(UserError, match="'mrpc'.*lcqmc, lcqmc_pair, xnli"):
        tasks.get_task("mrpc")


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
