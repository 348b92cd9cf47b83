"""Files of questions: formats, answers at another place, and one-line messages for mistakes."""

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import finetuning_data.span_files
from common.errors import UserError
from finetuning_data.span_files import Answer, find_answer, read_questions

CONTEXT = "他生于北京。后来在上海和北京工作。"


def squad(*qas, context=CONTEXT):
    return {"version": "1", "data": [{"paragraphs": [{"context": context, "qas": list(qas)}]}]}


def qa(guid="1", text="北京", start=3, **more):
    answers = [{"text": text, "answer_start": start}]
    return dict({"id": guid, "question": "在哪？", "answers": answers}, **more)


def read(tmp_path, content, **options):
    path = tmp_path / "train.json"
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return read_questions(str(path), **options)


def problem(tmp_path, content, **options):
    with pytest.raises(UserError) as error:
        read(tmp_path, content, **options)
    message = str(error.value)
    assert "\n" not in message and "train.json" in message
    return message


def test_examples_of_the_docstrings():
    result = doctest.testmod(finetuning_data.span_files)
    assert result.attempted and not result.failed


def test_squad_style_with_several_answers(tmp_path):
    two = dict(qa("2"), answers=[{"text": "上海", "answer_start": 9}, {"text": "北京。"}])
    one, other = read(tmp_path, squad(qa(), two))
    assert one == ("1", "在哪？", CONTEXT, (Answer("北京", 3, 5),))
    assert other.answers == (Answer("上海", 9, 11), Answer("北京。", 3, 6))


def test_answers_as_datasets_has_them(tmp_path):
    answers = {"text": ["上海", "北京"], "answer_start": [9, 12]}
    (question,) = read(tmp_path, squad(qa(answers=answers)))
    assert question.answers == (Answer("上海", 9, 11), Answer("北京", 12, 14))


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"data": rows}])
def test_native_format(tmp_path, wrap):
    row = {"query_id": "Q1", "query_text": "在哪？", "answers": ["北京", "上海"]}
    article = {"context_id": "C1", "context_text": CONTEXT, "title": "他", "qas": [row]}
    (question,) = read(tmp_path, wrap([article]))
    assert question.guid == "Q1" and question.context == CONTEXT
    assert question.answers == (Answer("北京", 3, 5), Answer("上海", 9, 11))


def test_questions_without_an_answer(tmp_path):
    row = dict(qa("2"), is_impossible=True, plausible_answers=[{"text": "上海"}])
    assert read(tmp_path, squad(qa(), row))[1].answers == ()
    open_row = {"id": "3", "question": "在哪？"}
    fake = qa("4", "FAKE_ANSWER_1", -1)
    blank = qa("5", "", -1)
    rows = read(tmp_path, squad(qa(), open_row, fake, blank), needs_answers=False)
    assert [row.answers for row in rows] == [(Answer("北京", 3, 5),), None, None, None]
    assert "question 3 has no answer" in problem(tmp_path, squad(qa(), open_row))


@pytest.mark.parametrize("needs_answers", [True, False])
def test_an_empty_list_of_answers_says_that_there_is_none(tmp_path, needs_answers):
    """datasets of Hugging Face have SQuAD 2.0 without the field is_impossible."""
    none = dict(qa("2"), answers={"text": [], "answer_start": []})
    options = {"needs_answers": needs_answers, "allow_no_answer": True}
    rows = read(tmp_path, squad(qa(), none), **options)
    assert [row.answers for row in rows] == [(Answer("北京", 3, 5),), ()]
    rows = read(tmp_path, squad(none), **options)
    assert rows[0].answers == (() if needs_answers else None)
    assert "--allow_no_answer=True" in problem(tmp_path, squad(qa(), none))


def test_bad_parts_of_a_file_are_skipped(tmp_path, caplog):
    good = dict(qa(), context=CONTEXT)
    bad = [dict(qa("2"), context=""), 5, {"context": CONTEXT, "qas": 1}, {"paragraphs": [None]}]
    lines = [json.dumps(row) for row in [good] + bad] + ['{"id": ']
    assert [row.guid for row in read(tmp_path, "\n".join(lines), skip_bad_rows=True)] == ["1"]
    assert "BAD ROWS: 5 of" in caplog.text and "row 6: not JSON" in caplog.text
    assert "row 2: context is ''" in problem(tmp_path, "\n".join(lines[:-1]))


@pytest.mark.parametrize("key", ["paragraphs", "qas"])
def test_one_line_may_hold_an_article_or_a_paragraph(tmp_path, key):
    paragraph = {"context": CONTEXT, "qas": [qa()]}
    row = paragraph if key == "qas" else {"paragraphs": [paragraph]}
    (question,) = read(tmp_path, json.dumps(row))
    assert question.context == CONTEXT


def test_true_and_false_may_be_texts(tmp_path):
    answer = (Answer("北京", 3, 5),)
    for value in (False, "false", "False", "", None, 0):
        assert read(tmp_path, squad(qa(is_impossible=value)))[0].answers == answer
    for value in (True, "true", "True ", 1):
        assert read(tmp_path, squad(qa(is_impossible=value)))[0].answers == ()
    for value in ("no", 2, [], {}):
        message = problem(tmp_path, squad(qa("7", is_impossible=value)))
        assert "qas[0]: question 7: is_impossible" in message and "neither true nor" in message


def test_an_answer_that_stands_elsewhere_is_found_near_by(tmp_path, caplog):
    assert read(tmp_path, squad(qa(start=4)))[0].answers == (Answer("北京", 3, 5),)
    assert "ANSWERS ELSEWHERE: 1 of 1" in caplog.text and "data[0].paragraphs[0]" in caplog.text
    assert read(tmp_path, squad(qa(start=11)))[0].answers == (Answer("北京", 12, 14),)
    assert read(tmp_path, squad(qa(start=900)))[0].answers == (Answer("北京", 12, 14),)
    assert read(tmp_path, squad(qa(start=-7)))[0].answers == (Answer("北京", 3, 5),)


def test_an_answer_that_is_nowhere_is_counted(tmp_path, caplog):
    questions = read(tmp_path, squad(qa(), qa("2", "广州")))
    assert questions[1].answers == (Answer("广州", None, None),)
    assert "ANSWERS NOT IN THEIR CONTEXT: 1 of 2" in caplog.text and "'广州'" in caplog.text
    assert "no answer is in its context" in problem(tmp_path, squad(qa("2", "广州")))


def test_blanks_case_and_width_may_differ():
    context = "公司“ＡＢＣ Ｃｏ．”在 北 京，ABC。"
    for text in ("ABC Co.", "在北京", "abc", " 北京 "):
        begin, end = find_answer(context, text)
        assert context[begin:end] in ("ＡＢＣ Ｃｏ．", "在 北 京", "ＡＢＣ", "北 京")
    assert find_answer(context, "abc", 20) == (17, 20)
    assert find_answer(context, "南京") is None


@given(st.text("ab é\u0301Ａ", max_size=12), st.data())
def test_any_part_of_a_context_is_found(context, data):
    begin = data.draw(st.integers(0, len(context)))
    end = data.draw(st.integers(begin, len(context)))
    text = context[begin:end]
    if text.strip():
        assert find_answer(context, text, begin) == (begin, end)
        found = find_answer(context, text, data.draw(st.integers(-3, 15)))
        assert context[slice(*found)] == text


@pytest.mark.parametrize("form", ["lines", "list", "data", "one"])
def test_a_question_a_row_as_datasets_writes_it(tmp_path, form):
    answers = {"text": ["北京"], "answer_start": [1]}
    rows = [
        {
            "id": number,
            "title": "题",
            "context": "在北京。",
            "question": "在哪？",
            "answers": answers,
        }
        for number in "12"
    ][: 1 if form == "one" else 2]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
    content = {"lines": lines, "one": lines, "list": rows, "data": {"data": rows}}[form]
    questions = read(tmp_path, content)
    assert [question.guid for question in questions] == [row["id"] for row in rows]
    assert {question.context for question in questions} == {"在北京。"}
    assert {question.answers for question in questions} == {(Answer("北京", 1, 3),)}


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "row 1: not JSON"),
        (
            '{"data": [{"tit',
            "row 1: not JSON (Unterminated string at character 12; the text may be",
        ),
        ('{"data": []} 3', "row 1: not JSON (Extra data at character 14); the file must be a list"),
        ('{"data": [\n]}\n3', "row 3: not JSON (Extra data at row 3, character 1); the file"),
        (
            '{"id": "1"}\n{"id": "2"}',
            "row 1: no context: a column must be named context; found 'id'",
        ),
        ('{"id": "1"}\n\n{"id": "2', "row 3: not JSON (Unterminated string"),
        (squad(qa(answers={"text": ["京"], "answer_start": []})), "1 text and 0 answer_start"),
        (squad(qa(), dict(qa(), id=1.5)), "id 1.5 is neither a text nor a whole number"),
        (squad(qa(), dict(qa(), id=True)), "id true is neither a text nor a whole number"),
        ("[" * 100000, "row 1: not JSON (Too many brackets in brackets"),
        (json.dumps(squad(qa("\ud83d"))), 'qas[0]: "\\ud83d" is half of a character: remove it'),
        ("3", "expected a list"),
        ("[3]", "data[0]: 3 is not an object"),
        ({"data": [{"paragraphs": {}}]}, "data[0].paragraphs: {} is not a list"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "no context: a column must be named"),
        ({"data": [{"context": None, "qas": []}]}, "context is null, not a text"),
        ([{"context_text": "好"}], "data[0].qas: null is not a list"),
        ([], "no questions"),
        (squad(qa(), qa()), "qas[1]: id '1' is already at data[0].paragraphs[0].qas[0]"),
        (squad(qa(), {"question": "在哪？"}), "qas[1]: the question has no id"),
        (squad(qa(), {"id": "2", "question": 3}), "question 2: 3 is not a text"),
        (squad(qa(), {"id": "2"}), "question 2 has no text: give question or query_text"),
        (squad(qa(), qa("2", answers="北京")), "answers '北京' are not a list"),
        (squad(qa(), qa("2", answers=[{"text": ""}])), "question 2 has no answer: give"),
        (squad(qa(), qa("2", answers=[{"text": 3}])), "answer 3 is not a text"),
        (squad(qa(), qa("2", start="3")), "answer_start '3' is not a whole number"),
    ],
)
def test_mistakes(tmp_path, content, words):
    assert words in problem(tmp_path, content)


def test_empty_questions_are_told_and_kept(tmp_path, caplog):
    assert len(read(tmp_path, squad(qa(), dict(qa("2"), question=" ")))) == 2
    assert "EMPTY QUESTIONS: 1 of" in caplog.text and "qas[1]" in caplog.text


def test_bad_questions_can_be_left_out(tmp_path, caplog):
    questions = read(tmp_path, squad(qa(), qa("2", start="3")), skip_bad_rows=True)
    assert [question.guid for question in questions] == ["1"]
    assert "BAD ROWS: 1 of" in caplog.text
