"""run_classifier.py on questions with choices, from the command line's flags to files."""

import json
import random
import re

import helpers
import numpy as np
import programs
import pytest
from helpers import read_json

import run_classifier
from checkpointing import run_folder
from common.errors import UserError
from training import best_checkpoint

LENGTH = 16
CHARACTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张"
RIGHT = "是"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(CHARACTERS + RIGHT + "他说。")
COUNTS = {"train": 160, "dev": 6, "test": 5}  # no multiples of the batch size 4
STEPS = 12


def text(rng, least=1, most=3):
    return "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(least, most)))


def choices(rng, count):
    """Return different choices and the number of the right one; only it has the character RIGHT."""
    answer = rng.randrange(count)
    found = ["{}{}".format(CHARACTERS[i], text(rng, 1, 2)) for i in range(count)]
    found[answer] = RIGHT * 2 + found[answer]
    return found, answer


def own_row(rng):
    found, answer = choices(rng, rng.choice([2, 3]))
    return {
        "context": text(rng),
        "question": text(rng),
        "choices": found,
        "answer": found[answer] if rng.random() < 0.5 else answer,
    }


def write_lines(path, rows):
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def write_workspace(folder):
    """Write config, vocabulary and files of the three tasks, in folders of their names."""
    helpers.write_learner(folder, PIECES, LENGTH)
    for name in ("choices", "c3", "chid"):
        (folder / name).mkdir()
    rng = random.Random(1)
    for split, count in COUNTS.items():
        rows = [own_row(rng) for _ in range(count)]
        write_lines(folder / "choices" / (split + ".jsonl"), rows)
        write_c3(folder / "c3", split, rows)
        write_chid(folder / "chid", split, [choices(rng, 3) for _ in range(count)])
    return folder


def write_c3(folder, split, rows):
    """Write the same questions: each character is a turn; the test set has no answers."""
    texts = []
    for number, row in enumerate(rows):
        answer = row["answer"]
        answer = row["choices"][answer] if isinstance(answer, int) else answer
        question = {"question": row["question"], "choice": row["choices"], "answer": answer}
        if split == "test":
            del question["answer"]
        texts.append([list(row["context"]), [question], str(number)])
    name = "test1.1.json" if split == "test" else split + ".json"
    (folder / name).write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")


def write_chid(folder, split, rows):
    """Write rows of two texts with a blank each; the second answer is the next candidate."""
    lines, answers = [], {}
    for number, (candidates, answer) in enumerate(rows):
        marks = ["#idiom{:06d}#".format(2 * number + i) for i in range(2)]
        answers.update(zip(marks, (answer, (answer + 1) % 3)))
        lines.append({"content": ["他说" + mark for mark in marks], "candidates": candidates})
    name = "test1.0" if split == "test" else split
    write_lines(folder / (name + ".json"), lines)
    if split != "test":
        (folder / (split + "_answer.json")).write_text(json.dumps(answers))


def flags(folder, task="choices", **changes):
    values = {
        "task_name": task,
        "data_dir": folder / task,
        "num_train_epochs": STEPS * 4 / COUNTS["train"],
        "max_choices": 3,
        "evals_per_epoch": 0,
    }
    return helpers.finetuning_flags(folder, LENGTH, **dict(values, **changes))


def run(folder, task="choices", **changes):
    helpers.run(run_classifier, flags(folder, task, **changes))


def read_table(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Files of the tasks; the folder `out` holds a run of `choices`. Tests must not write to it."""
    folder = write_workspace(tmp_path_factory.mktemp("choices"))
    learning = {"num_train_epochs": 2, "learning_rate": 0.006}
    run(folder, do_train=True, do_eval=True, do_predict=True, **learning)
    return folder


def test_learns_what_can_be_learned(workspace):
    results = read_json(workspace / "out" / "eval_results.json")
    assert (results["eval_accuracy"], results["eval_examples"]) == (1.0, COUNTS["dev"])
    history = best_checkpoint.read_history(str(workspace / "out"))
    assert min(row["eval_loss"] for row in history.values()) < 0.1
    assert read_json(workspace / "out" / "results.json")["examples"]["choices"]["dev"]


def test_predictions_are_named_and_in_order(workspace):
    header, *rows = read_table(workspace / "out" / "predictions.tsv")
    assert header == ["id", "answer", "prediction", "text", "p(0)", "p(1)", "p(2)"]
    lines = (workspace / "choices" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    for number, (row, line) in enumerate(zip(rows, map(json.loads, lines))):
        count, chosen = len(line["choices"]), int(row[2])
        assert row[0] == str(number) and row[3] == line["choices"][chosen]
        assert RIGHT in row[3] and row[1] == row[2]
        probabilities = [float(cell) for cell in row[4 : 4 + count]]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert int(np.argmax(probabilities)) == chosen and row[4 + count :] == [""] * (3 - count)
    assert len(rows) == COUNTS["test"]


def test_c3_is_scored_by_a_model_of_one_s_own_questions(workspace, tmp_path):
    run(
        workspace,
        "c3",
        do_eval=True,
        do_predict=True,
        init_checkpoint=run_folder.best_checkpoint(str(workspace / "out")),
        output_dir=tmp_path,
    )
    assert read_json(tmp_path / "eval_results.json")["eval_accuracy"] == 1.0
    results = read_json(tmp_path / "test_results.json")
    assert results == {"test_examples": COUNTS["test"], "global_step": 0}
    lines = (tmp_path / "c311_predict.json").read_text().splitlines()
    expected = read_table(workspace / "out" / "predictions.tsv")[1:]
    assert [json.loads(line) for line in lines] == [
        {"id": number, "label": int(row[2])} for number, row in enumerate(expected)
    ]


def test_chid_fills_each_blank_with_another_candidate(workspace, tmp_path):
    """If each blank were filled alone, both blanks of a row would take the one with RIGHT."""
    run(
        workspace,
        "chid",
        do_train=True,
        do_eval=True,
        do_predict=True,
        num_train_epochs=0.5,
        output_dir=tmp_path,
    )
    results = read_json(tmp_path / "eval_results.json")
    assert {"eval_accuracy", "eval_accuracy_alone", "eval_loss"} < set(results)
    assert results["eval_examples"] == 2 * COUNTS["dev"]
    predicted = read_json(tmp_path / "chid10_predict.json")
    assert list(predicted) == ["#idiom{:06d}#".format(i) for i in range(2 * COUNTS["test"])]
    chosen = list(predicted.values())
    assert all(one != other for one, other in zip(chosen[::2], chosen[1::2]))


def test_a_killed_run_loses_nothing(workspace, tmp_path):
    """After SIGKILL the same command continues, and its weights and slots are the same."""
    values = {"do_train": True, "save_checkpoints_steps": 1}
    killed = flags(workspace, output_dir=tmp_path / "killed", **values)
    programs.run_until_killed("run_classifier.py", killed, steps=(3,))
    assert 3 <= run_folder.latest_step(str(tmp_path / "killed")) < STEPS
    run(workspace, output_dir=tmp_path / "killed", **values)
    run(workspace, output_dir=tmp_path / "whole", **values)
    assert run_folder.latest_step(str(tmp_path / "whole")) == STEPS
    helpers.assert_same_bits(tmp_path / "killed", tmp_path / "whole")


def test_a_run_of_another_kind_keeps_its_folder(workspace):
    (workspace / "labels").mkdir()
    for split in ("train", "dev"):
        rows = "天\t地\t0\n日\t月\t1\n"
        (workspace / "labels" / (split + ".tsv")).write_text(rows, encoding="utf-8")
    data = {"data_dir": workspace / "labels", "labels": "0,1", "do_eval": True, "max_choices": None}
    with pytest.raises(UserError, match="holds a run of task choices, not sentence_pair"):
        run(workspace, "sentence_pair", **data)
    start = dict(data, init_checkpoint=workspace / "out", output_dir=workspace / "other")
    with pytest.raises(UserError, match=r"says labels=\[\], the task .*0 and 2 labels"):
        run(workspace, "sentence_pair", **start)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"task_name": "c4"}, "task 'c4' is unknown; the tasks are .*c3, chid, chnsenticorp, cho"),
        ({"data_dir": "nowhere"}, "no train file of task choices in nowhere"),
        ({"max_choices": 1}, "max_choices"),
        ({"max_seq_length": 17}, "max_position_embeddings=16"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(changes, words, workspace, tmp_path):
    with pytest.raises(UserError, match=words) as raised:
        run(workspace, **dict({"do_train": True, "output_dir": tmp_path / "new"}, **changes))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "new").exists()


def test_more_choices_than_the_flag_allows(workspace, tmp_path, capsys):
    """With the flag that the message names, the run succeeds."""
    values = {"do_train": True, "output_dir": tmp_path / "new"}
    with pytest.raises(UserError, match="train.jsonl, row .*: 3 choices: give --(.*)=(3), or") as e:
        run(workspace, max_choices=2, **values)
    name, value = re.search("--(.*)=(3)", str(e.value)).groups()
    with pytest.raises(SystemExit) as ended:
        run(workspace, check_only=True, **dict(values, **{name: value}))
    assert ended.value.code == 0, capsys.readouterr().out
    assert not (tmp_path / "new").exists()
