"""Every format gives one dictionary for each row, and a message for each row that is wrong."""

import gzip
import json
import re
import shutil
import subprocess
import sys

import pytest

from common.errors import UserError
from finetuning_data import other_files, task_files
from finetuning_data.bad_rows import BadRow

PAIR = task_files.RowFormat(("text_a", "text_b", "label"), frozenset("01"), True)
TEST_PAIR = PAIR._replace(needs_label=False)
OPEN_PAIR = PAIR._replace(labels=frozenset())
LABEL_FIRST = task_files.RowFormat(("label", "text_a"), frozenset("01"), True)


def read(path, content, layout=PAIR):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    rows = task_files.open_rows(str(path), layout)
    return [(number, rows.parse(line)) for number, line in rows.lines]


def pair(text_a, text_b, label=None):
    row = {"text_a": text_a, "text_b": text_b}
    return dict(row, label=label) if label else row


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last_end", [True, False])
@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
@pytest.mark.parametrize(
    "lines, numbers",
    [
        (["天\t地\t1", "", '"人\t\'马\u2028"\t0'], (1, 3)),
        (["text_a\ttext_b\tlabel", "天\t地\t1", '"人\t\'马\u2028"\t0', " "], (2, 3)),
        (["Label\tSentence2\tSentence1", "1\t地\t天", '0\t\'马\u2028"\t"人'], (2, 3)),
        (["query one\tquery two\tlabel", "天\t地\t1", '"人\t\'马\u2028"\t0'], (2, 3)),
        (["句子1\t句子2\t标签", "天\t地\t1", '"人\t\'马\u2028"\t0'], (2, 3)),
        (["类别\tTITLE\tQuery", "1\t地\t天", '0\t\'马\u2028"\t"人'], (2, 3)),
        (["sentence1\treply\tlabel", "天\t地\t1", '"人\t\'马\u2028"\t0'], (2, 3)),
    ],
)
def test_spellings_of_one_table(lines, numbers, name, last_end, end, mark, tmp_path):
    content = mark + end.join(lines) + end * last_end
    found = read(tmp_path / name, content)
    rows_ = [pair("天", "地", "1"), pair('"人', "'马\u2028\"", "0")]
    assert found == list(zip(numbers, rows_))


@pytest.mark.parametrize(
    "text", ["文本", "句子", "问题", "内容", "评论", "标题", "title", "review"]
)
@pytest.mark.parametrize("label", ["标签", "类别", "分类", "label"])
def test_a_chinese_header_is_no_example(text, label, tmp_path):
    layout = task_files.RowFormat(("text_a", "label"), frozenset(), True)
    [row] = read(tmp_path / "a.tsv", "{}\t{}\n天\t好".format(text, label), layout)
    assert row == (2, {"text_a": "天", "label": "好"})
    [row] = read(tmp_path / "a.json", '{{"{}": "好", "{}": "天"}}'.format(label, text), layout)
    assert row == (1, {"text_a": "天", "label": "好"})


def test_a_title_beside_a_text_stays_a_title(tmp_path):
    layout = task_files.RowFormat(("text_a", "label"), frozenset(), True)
    [(_, row)] = read(tmp_path / "a.json", '{"标题": "地", "内容": "天", "标签": "好"}', layout)
    assert row["text_a"] == "天"


@pytest.mark.parametrize(
    "header, content, expected",
    [
        ("yes", "原文\t译文\t打分\n天\t地\t1", [(2, pair("天", "地", "1"))]),
        ("yes", "打分\t原文\t译文\n天\t地\t1", [(2, pair("天", "地", "1"))]),
        ("yes", "label\tquery\ttitle\n1\t天\t地", [(2, pair("天", "地", "1"))]),
        ("no", "文本\t标题\t标签", [(1, pair("文本", "标题", "标签"))]),
    ],
)
def test_the_user_says_whether_there_is_a_header(header, content, expected, tmp_path):
    layout = OPEN_PAIR._replace(header=header)
    assert read(tmp_path / "a.tsv", content, layout) == expected


def test_a_header_of_unknown_words_without_labels(tmp_path):
    found = read(tmp_path / "a.tsv", "原文\t译文\n天\t地", TEST_PAIR._replace(header="yes"))
    assert found == [(2, pair("天", "地"))]


def test_an_example_is_not_taken_for_the_header_that_the_user_expects(tmp_path):
    layout = PAIR._replace(header="yes")
    with pytest.raises(UserError, match="row 1: --header=yes, but this row has the label '1'"):
        read(tmp_path / "a.tsv", "天\t地\t1", layout)


def test_the_flag_that_an_incomplete_header_names_helps(tmp_path):
    with pytest.raises(UserError, match="if this row is an example, give --header=no"):
        read(tmp_path / "a.tsv", "问题\t标题\t好", OPEN_PAIR)
    found = read(tmp_path / "a.tsv", "问题\t标题\t好", OPEN_PAIR._replace(header="no"))
    assert found == [(1, pair("问题", "标题", "好"))]


def test_other_columns_stay(tmp_path):
    [(_, row)] = read(tmp_path / "a.tsv", "id\tquestion1\tquestion2\tlabel\n7\t天\t地\t1")
    assert row == dict(pair("天", "地", "1"), id="7")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_spellings_of_one_file_of_json_lines(name, end, mark, tmp_path):
    lines = ['{"sentence1": "天\\t", "ID": 3}', "", '{"Premise":"地","label":null}']
    found = read(tmp_path / name, mark + end.join(lines))
    assert found == [(1, {"text_a": "天\t", "id": 3}), (3, {"text_a": "地", "label": None})]


def test_escaped_characters_are_read(tmp_path):
    [(_, row)] = read(tmp_path / "a.json", r'{"text": "\u5929\ud83d\ude00"}')
    assert row == {"text_a": "天\U0001f600"}


def test_a_first_row_of_header_words_with_a_label_is_an_example(tmp_path):
    assert read(tmp_path / "a.tsv", "text_a\ttext_b\t1") == [(1, pair("text_a", "text_b", "1"))]
    assert read(tmp_path / "a.tsv", "1\ttext", LABEL_FIRST) == [
        (1, {"label": "1", "text_a": "text"})
    ]


def test_a_test_file_has_labels_or_not(tmp_path):
    found = read(tmp_path / "a.tsv", "天\t地\n人\t马\t1\n", TEST_PAIR)
    assert found == [(1, pair("天", "地")), (2, pair("人", "马", "1"))]
    assert read(tmp_path / "a.tsv", "text_a\ttext_b\n天\t地", TEST_PAIR) == [(2, pair("天", "地"))]


@pytest.mark.parametrize(
    "content, layout, message",
    [
        (
            "text_a\ttext_b\n天\t地",
            PAIR,
            "row 1: the header lacks a column: no label: a column must",
        ),
        (
            "label\tone\treply\n1\t天\t地",
            OPEN_PAIR,
            "row 1: the header lacks a column: no text_a",
        ),
        ("\ntext_a\tsentence1\ttext_b\tlabel\n", PAIR, "row 2: the header names text_a twice"),
        ("text\ttext\tlabel\n天\t地\t1", PAIR, "row 1: the header names text_a twice"),
        ("label\ttext_a\ttext_b\tgold_label\n", PAIR, "row 1: the header names label twice"),
        ("你\t好\t1".encode("gb18030"), PAIR, "row 1: not UTF-8 text; convert the file (iconv"),
        ("你\t好\t1".encode("utf-16"), PAIR, "a.tsv is UTF-16: convert it with iconv"),
    ],
)
def test_bad_headers_end_the_reading(content, layout, message, tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.tsv", content, layout)
    assert message in str(error.value) and str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a b.tsv", "a.jsonl"])
@pytest.mark.parametrize(
    "convert, tool",
    [
        (lambda text: text.encode("utf-16"), "iconv"),
        (lambda text: b"\xfe\xff" + text.encode("utf-16-be"), "iconv"),
        (lambda text: text.encode("utf-16-le"), "iconv"),
        (lambda text: gzip.compress(text.encode("utf-8")), "gunzip"),
    ],
)
def test_the_command_that_converts_a_file_works(convert, tool, name, tmp_path):
    text = "天\t地\t1\n" if name.endswith(".tsv") else '{"text_a": "天", "text_b": "地"}\n'
    with pytest.raises(UserError) as error:
        read(tmp_path / name, convert(text))
    message = str(error.value)
    assert message.startswith(str(tmp_path / name)) and "\n" not in message
    if not shutil.which(tool):
        pytest.skip("{} is not installed".format(tool))
    command = message[message.index(tool) :].replace("NEW_FILE", "converted")
    subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
    assert (tmp_path / "converted").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.tsv", "天\t地", "found 2 columns ('天\\t地'), expected 3 (text_a, text_b, label)"),
        (
            "a.tsv",
            "String\tOther\tQuality\tNumber\n天\t地\t1\t0",
            "in the first row: text_a, text_b, label, and any name for others",
        ),
        ("a.tsv", "a" * 99, "('{}...')".format("a" * 60)),
        ("a.tsv", "text_a\ttext_b\tlabel\tid\n天\t地\t1", "found 3 columns"),
        ("a.tsv", "text_a\ttext_b\tlabel\ntext_a\ttext_b\tlabel", "repeats the header: delete it"),
        ("a.tsv", "天\t地\t1\n".encode() + "地\t天\t1".encode("gb18030"), "not UTF-8 text"),
        (
            "a.tsv",
            "天地玄\t地\t1\n天\t地".encode()[:-1],
            "the file ends inside a character, so it is",
        ),
        ("a.tsv", "天地玄\t地\t1\n天\t".encode() + b"\xff\t1", "not the bytes ff 09 31: mend"),
        (
            "a.json",
            '{"label": "1"',
            "not JSON (Expecting ',' delimiter at character 14; the text may be cut): '{\"lab",
        ),
        ("a.json", '{"text": ' + "[" * 100000, "not JSON (Too many brackets in brackets"),
        ("a.json", "天\t地\t1", "not JSON (Expecting value at character 1)"),
        ("a.json", '["天", "地"]', '["天", "地"] is not a JSON object: write one object per line'),
        ("a.json", '{"label": 1, "gold_label": 2}', "two fields are the same column: 'label, gold"),
        ("a.json", r'{"text": "天\ud83d"}', r'"\ud83d" is half of a character: remove it'),
        ("a.json", '{"text": "天"}'.encode("gb18030"), "not UTF-8 text"),
    ],
)
def test_bad_rows_say_what_is_wrong(name, content, message, tmp_path):
    with pytest.raises(BadRow) as error:
        read(tmp_path / name, content)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.tsv", "a.json"])
@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff"])
def test_an_empty_file_has_no_rows(content, name, tmp_path):
    assert read(tmp_path / name, content) == []


def typed(error, tool, tmp_path):
    """Run the command that a message names; return what the command makes."""
    command = str(error.value)[str(error.value).index(tool) :].replace("NEW_FILE", "converted")
    if not shutil.which(tool):
        pytest.skip("{} is not installed".format(tool))
    if tool == "python":
        command = command.replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
    return (tmp_path / "converted").read_text(encoding="utf-8")


@pytest.mark.parametrize("layout", [PAIR, TEST_PAIR, OPEN_PAIR])
@pytest.mark.parametrize(
    "between, tool",
    [(",", "python")] + [(x, "awk") for x in ("    ", " ", "_!_", "|", ";")],
)
def test_the_command_that_puts_tabs_between_columns_works(layout, between, tool, tmp_path):
    rows = [["天", "地", "1"], ["玄", "黄", "0"]]
    with pytest.raises(UserError, match="between its columns") as error:
        read(tmp_path / "a b.tsv", "".join(between.join(row) + "\n" for row in rows), layout)
    assert typed(error, tool, tmp_path) == "".join("\t".join(row) + "\n" for row in rows)


def test_headlines_of_toutiao_have_commas_in_their_columns(tmp_path):
    rows = "".join("{}_!_101_!_news_culture_!_天地_!_玄,黄\n".format(i) for i in range(3))
    with pytest.raises(UserError, match="a.txt has _!_ between its columns"):
        read(tmp_path / "a.txt", rows, PAIR)


@pytest.mark.parametrize(
    "content, is_refused",
    [
        ("天,好\n地,坏", True),
        ("id,text\n1,天\n2,地", True),
        ("天 好\n地 坏", True),
        ("天,好", False),
        ("天,好\n地,人", False),
        ("天 好\n地 坏 坏", False),
        ("天\n地", False),
        ('天,"好\n地,坏', False),
        ("天,好\n地\t好", False),
        ('"' + "天" * 140000 + ",好\n地,坏", False),
    ],
)
def test_texts_alone_may_have_commas_and_blanks(content, is_refused, tmp_path):
    layout = task_files.RowFormat(("text_a", "label"), frozenset(("好", "坏")), False)
    try:
        read(tmp_path / "a.tsv", content, layout)
        assert not is_refused
    except UserError:
        assert is_refused


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("indent, tool", [(None, "python3"), (1, "python3"), (0, "jq")])
def test_the_command_that_makes_json_lines_works(indent, tool, mark, tmp_path):
    rows = [{"text_a": "天", "text_b": "地", "label": "1"}] * 2
    content = json.dumps(rows, indent=indent, ensure_ascii=False)
    if tool == "jq":
        content = "\n".join(json.dumps(row, indent=1, ensure_ascii=False) for row in rows)
    with pytest.raises(UserError, match="JSON lines are one object a line") as error:
        read(tmp_path / "a b.json", mark + content)
    assert list(map(json.loads, typed(error, tool, tmp_path).splitlines())) == rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_json_lines_of_another_name_are_told(end, tmp_path):
    content = '{"text_a": "天", "text_b": "地, 人", "label": "1"}' + end
    with pytest.raises(UserError, match="a.tsv holds JSON lines: .* ends in .jsonl"):
        read(tmp_path / "a.tsv", content * 2)
    assert len(read(tmp_path / "a.jsonl", content * 2)) == 2
    assert len(read(tmp_path / "a.tsv", '{"天": 1}\t地\t1\n玄\t黄\t0')) == 2


@pytest.mark.parametrize("second, is_told", [("17", True), ("天", False)])
def test_ids_in_place_of_texts_are_told(second, is_told, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        read(tmp_path / "a.tsv", "1\t天\n{}\t地\n3\t人\n".format(second), TEST_PAIR)
    assert ("is a number; without names the columns" in caplog.text) == is_told


@pytest.mark.parametrize("name", ["a.tsv", "a.json"])
@pytest.mark.parametrize("second, is_told", [("sentence2", True), ("假设", True), ("title", False)])
def test_a_second_text_that_the_task_does_not_read_is_told(name, second, is_told, tmp_path, caplog):
    row = {"text": "天", second: "地", "label": "1"}
    content = json.dumps(row) if name == "a.json" else "\n".join(map("\t".join, zip(*row.items())))
    if not is_told:
        with caplog.at_level("WARNING", logger="absl"):
            read(tmp_path / name, content.encode("utf-8"), PAIR)
            assert "NOT READ" not in caplog.text
            read(tmp_path / name, content.encode("utf-8"), LABEL_FIRST)
        assert "NOT READ: column title of" in caplog.text
        assert read(tmp_path / name, content.encode("utf-8"), LABEL_FIRST)[0][1]["text_a"] == "天"
        return
    message = second + " is a second text, and the task reads one: .*--task_name=sentence_pair"
    with pytest.raises((UserError, BadRow), match=message):
        read(tmp_path / name, content.encode("utf-8"), LABEL_FIRST)
    assert read(tmp_path / name, content.encode("utf-8"), PAIR)[0][1]["text_b"] == "地"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("train.xlsx", b"PK\x03\x04" + b"-" * 26 + b"xl/", "train.xlsx is a file of Excel or"),
        ("train.tsv.gz", b"\x1f\x8b\x08", "train.tsv.gz is compressed with gzip: unpack"),
        ("train.csv", "天,地,1\n".encode("gb18030"), "train.csv has commas"),
        ("train.csv", "天，a,b\t地\t1\n".encode(), "train.csv has tabs .*that ends in .tsv$"),
        (
            "training.tsv",
            b"",
            "holds dev.xlsx, train.d, training.tsv: rename the file that you mean$",
        ),
    ],
)
def test_what_a_folder_holds_in_place_of_a_split(tmp_path, name, content, message):
    (tmp_path / "train.d").mkdir()
    (tmp_path / "dev.xlsx").write_bytes(b"PK\x03\x04")
    (tmp_path / name).write_bytes(content)
    assert re.search(message, other_files.found_instead(str(tmp_path), "train", ["train.tsv"]))


@pytest.mark.parametrize("name", ["train.csv", "train.tsv"])
def test_a_table_in_place_of_json_gets_no_command_for_a_table(tmp_path, name):
    (tmp_path / name).write_text("context,question\n")
    message = other_files.found_instead(str(tmp_path), "train", ["train.jsonl", "train.json"])
    assert message == str(tmp_path / name) + (
        " is a table, and the task reads JSON: write it as docs/data_formats.md shows"
    )


def test_lines_that_csv_cannot_read_are_not_taken_for_columns(tmp_path):
    content = b'"' + b"a" * 140000 + b"\n" + b"b\n" * 3  # the quote has no end
    with pytest.raises((UserError, BadRow)) as error:
        read(tmp_path / "train.tsv", content, PAIR)
    assert "commas" not in str(error.value)
