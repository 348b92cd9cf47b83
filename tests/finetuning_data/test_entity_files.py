"""Files of entities: every format, and one line for every mistake."""

import json
import subprocess

import pytest

from common.errors import UserError
from finetuning_data.entity_files import read_texts, types_of
from finetuning_data.labelled_text import Entity, LabelledText

SENTENCE = ("在北京", (Entity(1, 3, "LOC"),))


def write(tmp_path, text, name="train.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def read(tmp_path, text, **options):
    return read_texts(write(tmp_path, text), **options)


def problem(tmp_path, text, **options):
    with pytest.raises(UserError) as error:
        read(tmp_path, text, **options)
    message = str(error.value)
    assert "\n" not in message and "train.txt" in message
    return message


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "在北京", "label": {"LOC": {"北京": [[1, 2]]}}}',
        '{"text": "在北京", "entities": [{"begin": 1, "end": 3, "type": "LOC"}]}',
        '{"text": "在北京", "spans": [{"start": 1, "end": 3, "label": "LOC", "text": "北京"}]}',
        '{"text": "在北京", "entities": [{"start_idx": 1, "end_idx": 2, "type": "LOC"}]}',
        '{"text": "在北京", "entities": [{"start_pos": 1, "end_pos": 3, "label_type": "LOC"}]}',
        '{"text": "在北京", "label": [[1, 3, "LOC"]]}',
        '{"text": "在北京", "label": [{"start": 1, "end": 3, "text": "北京", "labels": ["LOC"]}]}',
        '{"originalText": "在北京", "entities": [{"start_pos": 1, "end_pos": 3, '
        '"label_type": "LOC"}]}',
        "在 O\n北 B-LOC\n京 I-LOC",
        "在 O\n北 B-LOC\n京 E-LOC\n",
        "\ufeff在\tO\r\n北\tB_LOC\r\n京\tE_LOC\r\n\r\n",
        "在\u3000O\n北\u3000B-LOC\n京\u3000E-LOC",
        "在\xa0O\n北\xa0B-LOC\n京\xa0I-LOC",
        "在 北 京\tO B-LOC I-LOC",
        "text_a\tlabel\n在 北 京\tO B-LOC I-LOC\n",
        "label\ttext_a\nO B-LOC I-LOC\t在 北 京\n",
        "text\tlabel\n在\tO\n北\tB-LOC\n京\tI-LOC\n",
        '{"text": "在北京", "tokens": ["在", "北京"], "entities": [[1, 3, "LOC"]]}',
        '{"text": "在北京", "tokens": [{"text": "在"}], "spans": [{"start": 1, "end": 3, '
        '"label": "LOC"}]}',
    ],
)
def test_every_format_gives_the_same(tmp_path, content):
    assert read(tmp_path, content) == [LabelledText("0", *SENTENCE)]


@pytest.mark.parametrize("prefixes", ["BMES", "BIES", "BILU"])
def test_bmes_bioes_bilou_and_single_characters(tmp_path, prefixes):
    text = "重 {}-NAME\n庆 {}-NAME\n人 {}-NAME\n汉 {}-RACE\n\n\n好 O\n".format(*prefixes)
    texts = read(tmp_path, text)
    assert [row.text for row in texts] == ["重庆人汉", "好"]
    assert texts[0].entities == (Entity(0, 3, "NAME"), Entity(3, 4, "RACE"))
    assert texts[1].entities == ()
    assert types_of(texts) == ("NAME", "RACE")


@pytest.mark.parametrize(
    "content",
    [
        "U-2 B-X\n飞 I-X\n机 I-X\n来 O\n",
        "U-2 飞 机 来\tB-X I-X I-X O\n",
        '{"id": "S_1", "tokens": ["U-2", "飞", "机", "来"], "tags": ["B-X", "I-X", "I-X", "O"]}',
    ],
)
def test_a_unit_that_looks_like_a_label_does_not_change_the_scheme(tmp_path, content):
    (row,) = read(tmp_path, content)
    assert row.entities == (Entity(0, 5, "X"),)


def test_characters_below_a_header_and_a_first_sentence_of_one_character(tmp_path):
    one, two = read(tmp_path, "text\tlabel\n北\tB-LOC\n京\tI-LOC\n\n我\tO\n")
    assert (one.text, one.entities, two.text) == ("北京", (Entity(0, 2, "LOC"),), "我")
    one, two = read(tmp_path, "嗯\tO\n在 北 京\tO B-LOC I-LOC\n")
    assert (one.text, two.text, two.entities) == ("嗯", *SENTENCE)
    with pytest.raises(UserError, match="no texts"):
        read(tmp_path, "text\tlabel\n")


def test_json_may_end_in_what_looks_like_a_label(tmp_path):
    (row,) = read(tmp_path, '{"text": "他买了 E-mail服务"}', needs_labels=False)
    assert row.text == "他买了 E-mail服务"


def test_spaced_characters_without_labels_are_joined(tmp_path):
    (row,) = read(tmp_path, "他 在 2 0 2 1 年 来", needs_labels=False)
    assert row.text == "他在2021年来"


def test_texts_below_a_header_keep_their_blanks(tmp_path):
    text = "我用 iPhone 手机"
    (row,) = read(tmp_path, "text\n" + text, needs_labels=False)
    assert (row.text, row.entities) == (text, None)


def test_entities_side_by_side_and_words_of_several_characters(tmp_path):
    text = "New B-LOC\nYork I-LOC\n上 B-LOC\n海 I-LOC\niPhone B-X\n6 I-X\nA O\n1 O\n"
    (row,) = read(tmp_path, text)
    assert row.text == "New York上海iPhone 6A1"
    assert [row.text[e.begin : e.end] for e in row.entities] == ["New York", "上海", "iPhone 6"]


def test_the_marks_of_documents_of_conll_are_no_texts(tmp_path):
    rows = read(tmp_path, "-DOCSTART- O\n\n好 O\n\n-DOCSTART- -X- O O\n北 B-LOC\n")
    assert [row.text for row in rows] == ["好", "北"]


def test_a_blank_has_a_label(tmp_path):
    (row,) = read(tmp_path, "北 B-LOC\n  I-LOC\n京 I-LOC\n")
    assert (row.text, row.entities) == ("北 京", (Entity(0, 3, "LOC"),))


def test_the_end_of_cluener_is_the_last_character_and_a_string_has_many_places(tmp_path):
    label = {"地址": {"北京": [[0, 1], [3, 4]]}, "人": {"王": [[2, 2]]}}
    row = json.dumps({"id": 7, "text": "北京王北京", "label": label}, ensure_ascii=False)
    (found,) = read(tmp_path, row)
    assert found.guid == "7"
    assert found.entities == (Entity(0, 2, "地址"), Entity(2, 3, "人"), Entity(3, 5, "地址"))


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens": list("在北京王"), "ner_tags": ["O", "B-LOC", "I-LOC", "B-PER"]},
        {"text": list("在北京王"), "labels": ["O", "B-LOC", "E-LOC", "S-PER"]},
    ],
)
def test_characters_and_labels_may_be_lists(tmp_path, fields):
    (row,) = read(tmp_path, json.dumps(dict(fields, id=7)))
    assert (row.guid, row.text) == ("7", "在北京王")
    assert row.entities == (Entity(1, 3, "LOC"), Entity(3, 4, "PER"))
    (row,) = read(tmp_path, json.dumps({"tokens": list("在北")}), needs_labels=False)
    assert (row.text, row.entities) == ("在北", None)


@pytest.mark.parametrize("content", ['{"id": 3, "text": "在北京"}', "在\n北\n京\n", "在 北 京\n"])
def test_a_test_file_may_lack_labels(tmp_path, content):
    if " 北" in content:
        content = "text_a\n" + content
    (row,) = read(tmp_path, content, needs_labels=False)
    assert (row.text, row.entities) == ("在北京", None)
    assert "no labels; only a test file" in problem(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "在北京", "label": {}}\n{"text": "到", "label": {}}',
        '{"text": "在北京", "entities": []}\n{"text": "到"}',
        '{"text": "在北京", "label": ""}\n{"text": "到", "label": ""}',
        "在 O\n北 O\n京 O\n\n到 O",
    ],
)
def test_labels_that_name_no_entity_in_a_test_file_are_unknown(tmp_path, content):
    texts = read(tmp_path, content, needs_labels=False)
    assert [(text.text, text.entities) for text in texts] == [("在北京", None), ("到", None)]
    with_one = content + '\n{"text": "天", "entities": [[0, 1, "LOC"]]}'
    if content.startswith("{"):
        assert read(tmp_path, with_one, needs_labels=False)[2].entities == ((0, 1, "LOC"),)


def test_texts_of_one_id_are_kept_and_told(tmp_path, caplog):
    """The id of a text without an id is the number of its row; another text may have this id."""
    rows = '{"id": 1, "text": "天"}\n{"text": "地"}\n{"id": "a", "text": "玄"}\n'
    texts = read(tmp_path, rows, needs_labels=False)
    assert [text.guid for text in texts] == ["1", "1", "a"]
    assert "REPEATED IDS: 1 ids" in caplog.text and ", 1 first, belong to" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        "我在北京。\n他 爱New York\n",
        "北京 天气\n\n去北京\n",
        "北京\n2019年的事情,O\n",
        "他的血型是 O\n他在北京\n国足 U-20\n去北京\n",
    ],
)
def test_a_file_without_labels_has_a_text_a_line(tmp_path, content):
    expected = [line for line in content.split("\n") if line]
    assert [row.text for row in read(tmp_path, content, needs_labels=False)] == expected
    problem(tmp_path, content)
    assert "has a tab" in problem(tmp_path, content + "12\t去北京\n", needs_labels=False)


@pytest.mark.parametrize("mark", ["[", "{", "[SEP]"])
def test_a_text_may_begin_with_a_bracket(tmp_path, mark):
    text = mark + "笑]在北京"
    (row,) = read(tmp_path, text + "\n", needs_labels=False)
    assert (row.text, row.entities) == (text, None)
    (row,) = read(tmp_path, mark + " O\n在 O\n")
    assert (row.text, row.entities) == (mark + "在", ())
    assert "label '[CLS]' is illegal" in problem(tmp_path, "[CLS] [CLS]\n在 O\n")


def test_the_command_that_keeps_two_of_several_columns_works(tmp_path):
    content = "-DOCSTART- -X- -X- O\n\n在 P 4 O\n北 N 5 B-LOC\n京 N 6 I-LOC\n\n去 V 7 O\n"
    message = problem(tmp_path, content)
    command = message.split("the last: ")[1].replace("FILE", "train.txt", 1)
    subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
    one, two = read(tmp_path, (tmp_path / "NEW_FILE").read_text(encoding="utf-8"))
    assert (one.text, one.entities, two.text) == ("在北京", (Entity(1, 3, "LOC"),), "去")
    assert "awk" not in problem(tmp_path, "在 O\n北 京 O\n")


def test_the_command_that_writes_a_character_a_line_works(tmp_path):
    message = problem(tmp_path, "在/O 北/B-LOC 京/I-LOC\n//O 去/O\n")
    assert "row 1: '在/O' has '/' between a character and its label: put a blank" in message
    command = message.split("character a line: ")[1].replace("FILE", "train.txt", 1)
    subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
    one, two = read(tmp_path, (tmp_path / "NEW_FILE").read_text(encoding="utf-8"))
    assert (one.text, one.entities, two.text) == ("在北京", (Entity(1, 3, "LOC"),), "/去")
    assert "awk" not in problem(tmp_path, "在/O\n北/B-LOC\n")


def test_places_of_characters_in_their_words_are_left_out(tmp_path, caplog):
    """weiboNER_2nd_conll.train has them; digits in other files belong to the text."""
    (row,) = read(tmp_path, "我0\tO\n在0\tO\n北0\tB-LOC\n京1\tI-LOC\n50\tO\n")
    assert (row.text, row.entities) == ("我在北京5", (Entity(2, 4, "LOC"),))
    assert "PLACES: " in caplog.text and "such as '我0'" in caplog.text
    for text in ("在 O\nB0 O\n", "G7 O\n在 O\n", "1 O\n2 O\n", "A4 O\nA5 O\n"):
        (row,) = read(tmp_path, text)
        assert row.text.replace(" ", "") == text.replace(" O\n", "")


@pytest.mark.parametrize("needs_labels", [True, False])
@pytest.mark.parametrize("separator", [",", "，", "|"])
def test_another_separator_than_a_blank_is_named(tmp_path, separator, needs_labels):
    text = "在 O\n北 B-LOC\n京 I-LOC\n".replace(" ", separator)
    message = problem(tmp_path, text, needs_labels=needs_labels)
    assert "row 1: '在{0}O' has '{0}' between".format(separator) in message


@pytest.mark.parametrize(
    "text, is_told",
    [
        ("在 O\n。 O\n去 O\n！ O\n好 O\n", True),
        ("在 O\n" * 501, True),
        ("在 O\n。 O\n\n去 O\n！ O\n好 O\n", False),
        ("在 O\n。 O\n", False),
    ],
)
def test_sentences_without_blank_lines_are_told(tmp_path, caplog, text, is_told):
    read(tmp_path, text)
    assert ("ONE SENTENCE: " in caplog.text) == is_told


@pytest.mark.parametrize(
    "row, words",
    [
        (
            '{"text": "在北京", "spans": [{"start": 1, "end": 2, "entity": "北京", "type": "X"}]}',
            "the text has '北' there; the end is the first character after",
        ),
        (
            '{"text": "我在北京", "label": [{"start": 1, "end": 3, "word": "北京", "type": "X"}]}',
            "the text has '在北' there",
        ),
        (
            '{"text": "在北京", "entities": [{"from": 1, "to": 3, "type": "LOC"}]}',
            "lacks its begin or its end: the fields are begin (or start) and end",
        ),
        ('{"text": "在北京", "label": [[0, 2, "O"]]}', "'在北' has the type O"),
        (
            '{"text": "在北京", "label": {"LOC": {"北京": [[2, 1]]}}}',
            "the end is before the beginning",
        ),
        ('{"text": "在北京", "label": {"LOC": {"北京": [[1, 3]]}}}', "the text has 3 characters"),
        ('{"text": "在北京", "label": {"LOC": {"北京": [[0, 1]]}}}', "the text has '在北' there"),
        ('{"text": "在北京", "label": {"LOC": {"北京": [1, 2]}}}', "not two whole numbers"),
        ('{"text": "在北京", "label": {"LOC": ["北京"]}}', "is not an object of entities"),
        ('{"text": "在北京", "label": [[0, 2, "X"], [1, 3, "LOC"]]}', "type 'X' is unknown"),
        (
            '{"text": "在北京", "label": [[0, 2, "LOC"], [1, 3, "LOC"]]}',
            "entities '在北' (LOC) and '北京' (LOC) overlap",
        ),
        ('{"text": "在北京", "label": [[0, 3, "LOC"], [1, 3, "ORG"]]}', "overlap"),
        ('{"text": "在北京", "entities": [{"begin": 1, "end": 3}]}', "has no type: give type"),
        ('{"data": {"text": "在"}, "annotations": []}', "full JSON of Label Studio: export JSON_M"),
        (
            '{"text": "在北京", "entities": [{"start_idx": 1, "end_idx": 3, "type": "X"}]}',
            "characters 1 to 4: the text has 3 characters; the end is the last character",
        ),
        ('{"text": "在北京", "entities": ["北京"]}', "is neither an object with begin, end"),
        (
            '{"text": "在北京", "entities": [["LOC", 1, 3]]}',
            "3] is neither an object with begin, end and type n",
        ),
        ('{"text": "在北京", "label": "LOC"}', "neither an object of types nor a list"),
        ('{"text": "", "label": {}}', "text is '', not a text"),
        ('{"data": []}', "no text: a column must be named text; found 'data'"),
        ('{"text": "\\ud83d", "label": {}}', "half of a character"),
        ('{"text": "在', "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"tokens": ["在", "北"], "ner_tags": [0, 1]}', "0 is not a text: write characters, and"),
        ('{"tokens": ["在", "北"], "labels": ["O"]}', "2 characters, but the labels are"),
        ('{"tokens": ["在", "北"], "ner_tags": ["O", null]}', "null is not a text"),
        ('{"tokens": ["\\ud83d"], "ner_tags": ["O"]}', "half of a character"),
        ('{"text": "在", "spans": [], "answer": "reject"}', "answer is reject"),
        ('{"id": "\\ud83d", "text": "在", "label": {}}', "half of a character"),
        ('{"tokens": ["在"], "entities": [[0, 1, "LOC"]]}', "need the text as one string"),
        ('{"text": ["在", "北"], "labels": {}}', "2 characters, but the labels are {}, not"),
        ('{"tokens": [], "ner_tags": []}', "the text is empty"),
        ('{"tokens": ["在", "北"], "ner_tags": ["O", "I-LOC"]}', "label I-LOC after O is illegal"),
    ],
)
def test_mistakes_in_json_lines(tmp_path, row, words):
    good = '{"text": "好", "label": {}}\n'
    message = problem(tmp_path, good + row + "\n" + good, types=("LOC", "ORG"))
    assert "row 2: " in message and words in message
    texts = read(tmp_path, good + row + "\n" + good, types=("LOC", "ORG"), skip_bad_rows=True)
    assert len(texts) == 2


@pytest.mark.parametrize(
    "text, number, words",
    [
        ("在 O\n北 I-LOC\n", 2, "label I-LOC after O is illegal: an entity begins with B-LOC"),
        ("在 B-ORG\n北 I-LOC\n", 2, "label I-LOC after B-ORG is illegal"),
        ("在 S-A\n北 B-LOC\n京 O\n", 3, "label O after B-LOC is illegal"),
        ("在 E-A\n北 B-B\n京 B-A\n国 O", 3, "label B-A after B-B is illegal"),
        ("在 O\n北 LOC\n", 2, "label 'LOC' is illegal"),
        ("在 O\n北\n", 2, "no label after the character"),
        ("在 O\n北 京 O\n", 2, "has 3 columns"),
        ("text_a\tlabel\n在 北\tO O\n在 北\tO\n", 3, "2 characters, but 1 labels"),
        ("在 北 京\tO O\n在 北\tO O\n", 1, "3 characters, but 2 labels: both need blanks"),
        ("在北京\tO O O\n", 1, "1 characters, but 3 labels: both need blanks"),
        ("text_a\tlabel\n在 北\tO O\n在 北\tO O\tO\n", 3, "found 3 columns"),
    ],
)
def test_mistakes_in_labels_of_characters(tmp_path, text, number, words):
    message = problem(tmp_path, text)
    assert "row {}: ".format(number) in message and words in message


def test_an_unknown_type_is_found_at_its_row(tmp_path):
    message = problem(tmp_path, "在 O\n\n百 O\n度 B-ORG\n", types=("LOC",))
    assert "row 4: type 'ORG' is unknown; the types are LOC" in message


def test_entities_that_the_end_of_a_sentence_cuts(tmp_path, caplog):
    text = "圣 B-L\n。 M-L\n\n彼 M-L\n得 E-L\n和 O\n\n好 E-L\n\n在 S-L\n北 B-L\n"
    spans = [[e[:2] for e in row.entities] for row in read(tmp_path, text)]
    assert spans == [[(0, 2)], [(0, 2)], [(0, 1)], [(0, 1), (1, 2)]]
    assert "CUT ENTITIES: 4 of" in caplog.text and "rows 2, 4, 8, 11;" in caplog.text
    (row,) = read(tmp_path, "京 I-L\n在 O\n北 B-L\n")  # an entity of bio needs no end
    assert [e[:2] for e in row.entities] == [(0, 1), (2, 3)]


@pytest.mark.parametrize("content", ['[{"text": "天"},\n{"text": "地"}]', '[\n{"text": "天"}]'])
def test_a_json_array_is_named(tmp_path, content):
    assert "holds a JSON array; JSON lines are one object" in problem(tmp_path, content)


def test_files_that_are_no_text(tmp_path):
    assert "is empty" in problem(tmp_path, "")
    assert "no texts" in problem(tmp_path, "\n\n")
    assert "Too many brackets in brackets" in problem(tmp_path, '{"text": ' + "[" * 100000)
    path = tmp_path / "train.txt"
    path.write_bytes("好 O\n在 O\n".encode("gb18030"))
    with pytest.raises(UserError, match="row 1: not UTF-8 text; convert the file .iconv"):
        read_texts(str(path))
    with pytest.raises(UserError, match="cannot read .*nothing"):
        read_texts(str(tmp_path / "nothing"))
