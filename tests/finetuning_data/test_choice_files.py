"""Questions with choices: every published format is read, and a mistake is one clear line."""

import json

import pytest

from common.errors import UserError
from finetuning_data import choice_files
from finetuning_data.choice_files import Question

MAX_CHOICES = 4
DIALOGUE = [
    ["男：今天冷吗?", "女：冷极了。"],
    [
        {"question": "天气怎么样?", "choice": ["冷", " 热 "], "answer": "冷"},
        {"question": "谁说冷?", "choice": ["男的", "女的", "都没说"], "answer": "女的"},
    ],
    "1-1",
]
OWN = {"context": "猫在睡觉。", "question": "谁在睡?", "choices": ["猫", "狗"], "answer": "猫"}
CLOZE = {
    "content": ["他#idiom000001#，又#idiom000002#。", "大家#idiom000003#。"],
    "candidates": ["一心一意", "三心二意", "五湖四海"],
}
DEEP = '{"context": ' + "[" * 100000
MARKS = {"#idiom000001#": 1, "#idiom000002#": 0, "#idiom000003#": 2}


def write(folder, name, rows, is_array=False):
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = json.dumps(rows, indent=1) if is_array else "\n".join(lines) + "\n"
    (folder / name).write_text(text, encoding="utf-8")


def read(name, folder, split="dev", **settings):
    task = choice_files.TASKS[name]
    paths = choice_files.find_files(task, str(folder), split)
    return choice_files.read_questions(task, paths, split, MAX_CHOICES, **settings)


def test_c3(tmp_path):
    write(tmp_path, "dev.json", [DIALOGUE], is_array=True)
    context = "男：今天冷吗?\n女：冷极了。"
    assert read("c3", tmp_path) == [
        Question("0", context, "天气怎么样?", ("冷", "热"), 0, 1),
        Question("1", context, "谁说冷?", ("男的", "女的", "都没说"), 1, 1),
    ]


def test_c3_in_two_files_and_without_answers(tmp_path):
    for name in ("d-train.json", "m-train.json"):
        write(tmp_path, name, [DIALOGUE], is_array=True)
    assert [question.guid for question in read("c3", tmp_path, "train")] == list("0123")
    questions = [dict(question, id=70 + i) for i, question in enumerate(DIALOGUE[1])]
    for question in questions:
        del question["answer"]
    write(tmp_path, "test1.1.json", [[DIALOGUE[0], questions, "1-1"]], is_array=True)
    found = read("c3", tmp_path, "test")
    assert [(question.guid, question.answer) for question in found] == [("70", None), ("71", None)]


@pytest.mark.parametrize("answer", [None, "", -1, "-1"])
def test_an_answer_of_a_test_file_may_be_unknown(tmp_path, answer):
    row = {"context": "天", "question": "地", "choices": ["玄", "黄"], "answer": answer}
    write(tmp_path, "test.json", [row])
    assert [question.answer for question in read("choices", tmp_path, "test")] == [None]


def test_of_equal_choices_of_c3_the_first_counts(tmp_path):
    question = dict(DIALOGUE[1][0], choice=["热", "冷", "冷"])
    write(tmp_path, "dev.json", [[DIALOGUE[0], [question]]], is_array=True)
    assert read("c3", tmp_path)[0].answer == 1


def test_chid(tmp_path):
    write(tmp_path, "dev.json", [CLOZE, dict(CLOZE, content=["#idiom000009#"])])
    (tmp_path / "dev_answer.json").write_text(json.dumps(dict(MARKS, **{"#idiom000009#": 0})))
    found = read("chid", tmp_path)
    assert [(x.guid, x.question, x.answer, x.group) for x in found] == [
        ("#idiom000001#", "#idiom000001#", 1, 1),
        ("#idiom000002#", "#idiom000002#", 0, 1),
        ("#idiom000003#", "#idiom000003#", 2, 1),
        ("#idiom000009#", "#idiom000009#", 0, 2),
    ]
    assert found[1].context == CLOZE["content"][0] and found[1].choices == (*CLOZE["candidates"],)
    write(tmp_path, "test1.0.json", [CLOZE])
    assert [question.answer for question in read("chid", tmp_path, "test")] == [None] * 3


def test_files_of_one_s_own(tmp_path, caplog):
    rows = [OWN, dict(OWN, answer=1, id="q7"), dict(OWN, answer=" 狗 ", id=8)]
    write(tmp_path, "dev.jsonl", rows)
    found = read("choices", tmp_path)
    assert [(question.guid, question.answer) for question in found] == [
        ("0", 0),
        ("q7", 1),
        ("8", 1),
    ]
    write(tmp_path, "test.jsonl", [dict(OWN, id="1"), OWN])
    assert [question.guid for question in read("choices", tmp_path, "test")] == ["1", "1"]
    assert "REPEATED IDS: 1 ids of" in caplog.text


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"choices": None}, "row 2: choices is null, not a list"),
        ({"choices": []}, "row 2: choices has 0 choices, not two or more"),
        ({"choices": ["猫"]}, "row 2: choices has 1 choices, not two or more"),
        ({"choices": ["猫", " "]}, "row 2: choices 2 is ' ', not a text"),
        ({"choices": ["猫", 3]}, "row 2: choices 2 is 3, not a text"),
        ({"choices": list("猫狗鸡鸭牛")}, "row 2: 5 choices: give --max_choices=5, or"),
        ({"answer": ["猫", "狗"]}, 'row 2: answer ."猫", "狗". is a list: a question has one'),
        ({"answer": "鸡"}, "row 2: answer '鸡' is not among the choices: '猫 | 狗'"),
        ({"choices": ["猫", "猫"]}, "row 2: answer '猫' is the text of 2 choices"),
        ({"answer": 2}, "row 2: answer 2 is not the number of a choice: the numbers are 0 to 1"),
        ({"answer": -1}, "row 2: answer -1 is not the number"),
        ({"answer": True}, "row 2: answer true is not among the choices"),
        ({"answer": None}, "row 2: there is no answer; only a test file"),
        ({"question": 5}, "row 2: question is 5, not a text"),
        ({"id": "q"}, "row 2: id 'q' is already at .*dev.jsonl, row 1"),
        ({"answer": "0"}, "row 2: answer '0' is not .*; give the text of one, or its number from"),
    ],
)
def test_mistakes_in_own_files(changes, words, tmp_path, caplog):
    write(tmp_path, "dev.jsonl", [dict(OWN, id="q"), dict(OWN, **changes)])
    with pytest.raises(UserError, match="dev.jsonl, " + words) as error:
        read("choices", tmp_path)
    assert "\n" not in str(error.value)
    assert len(read("choices", tmp_path, skip_bad_rows=True)) == 1
    assert str(error.value).partition("; --skip_bad_rows=True")[0] in caplog.text


@pytest.mark.parametrize("field", ["context", "question", "choices"])
def test_a_missing_field_is_named(field, tmp_path):
    row = {name: value for name, value in OWN.items() if name != field}
    write(tmp_path, "dev.jsonl", [row])
    with pytest.raises(UserError, match="row 1: no {0}: a field must be named {0}".format(field)):
        read("choices", tmp_path)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("choices", '{"context": ', "dev.json, row 1: not JSON"),
        ("choices", "[1]", "dev.json, row 1: .* is not a JSON object: write one object per line"),
        ("choices", "\n", "dev.json: no questions"),
        ("choices", '[\n{"context": "天"}\n]', "dev.json holds a JSON array; JSON lines are one"),
        ("choices", '[{"context": "天"},\n{}]', "dev.json holds a JSON array; JSON lines are one"),
        ("c3", "[", "dev.json is not JSON: .*; the text may be cut"),
        ("c3", "[1]\n[2]\n", "must be one JSON value, not one a line"),
        ("c3", "{}", "dev.json is not a JSON array of texts"),
        ("c3", "[3]", "dev.json, row 1: 3 is not a list of turns and questions"),
        ("c3", '[[["男：冷"], ["冷"]]]', "dev.json, row 1: question 1: question is '冷', not a"),
        ("c3", '[[["男：冷"], []]]', "row 1: the list of questions is empty: remove the row"),
        ("c3", DEEP, "dev.json is not JSON: Too many brackets in brackets"),
        ("choices", DEEP, "row 1: not JSON .Too many brackets in brackets"),
        ("c3", '[[["男：冷"], [{"question": "?"}]]]', "row 1: question 1: no choice: a field must"),
        ("chid", '{"content": ["冷"], "candidates": ["冷", "热"]}', "row 1: content has no blank"),
        ("chid", '{"content": ["#idiom5#"], "candidates": ["冷", "热"]}', "row 1: there is no ans"),
        ("chid", '{"content": ["#idiom1#"], "candidates": ["冷", "热"]}', "answer 7 is not the"),
    ],
)
def test_mistakes_in_whole_files(name, content, words, tmp_path):
    (tmp_path / "dev.json").write_text(content, encoding="utf-8")
    (tmp_path / "dev_answer.json").write_text('{"#idiom1#": 7}')
    with pytest.raises(UserError, match=words) as error:
        read(name, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, row", [("c3", [DIALOGUE]), ("choices", OWN), ("chid", CLOZE)])
def test_another_encoding_is_named(name, row, tmp_path):
    content = json.dumps(row, ensure_ascii=False).encode("gb18030")
    (tmp_path / "test.json").write_bytes(content)
    with pytest.raises(UserError, match="row 1: not UTF-8 text; convert the file .iconv -f GB180"):
        read(name, tmp_path, "test")


@pytest.mark.parametrize(
    "answers, words", [("[]", "is not a JSON object such"), ('{"#idiom1#": "a"}', "'a', not the n")]
)
def test_mistakes_in_answers(answers, words, tmp_path):
    write(tmp_path, "dev.json", [CLOZE])
    with pytest.raises(UserError, match="dev_answer.json does not exist"):
        read("chid", tmp_path)
    (tmp_path / "dev_answer.json").write_text(answers)
    with pytest.raises(UserError, match="dev_answer.json.*" + words):
        read("chid", tmp_path)


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path, "d-train.json", [DIALOGUE], is_array=True)
    with pytest.raises(UserError, match="looked for train.json or d-train.json and m-train.json"):
        read("c3", tmp_path, "train")


@pytest.mark.parametrize(
    "name, test_file, expected_file, expected",
    [
        ("c3", "test1.1.json", "c311_predict.json", [{"id": 7, "label": 1}, {"id": 8, "label": 0}]),
        ("chid", "test1.0.json", "chid10_predict.json", [{"7": 1, "8": 0}]),
    ],
)
def test_submissions_to_clue(name, test_file, expected_file, expected):
    task = choice_files.TASKS[name]
    assert task.submission.file_for(test_file) == expected_file
    questions = [Question(guid, "", "", ("a", "b"), None, 0) for guid in ("7", "8")]
    text = choice_files.submission_text(task, questions, [1, 0])
    found = [json.loads(text)] if task.is_cloze else list(map(json.loads, text.splitlines()))
    assert found == expected
