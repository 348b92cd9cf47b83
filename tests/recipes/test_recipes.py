"""Mistakes with the scripts of recipes/ end in one line, and leave the user's files as they are."""

import json
import pathlib
import subprocess
import sys
import types

import helpers
import pytest

from common import cli
from common.errors import UserError
from finetuning_data import tasks
from recipes import both_orders, held_out, in_domain, results_table, simplify

DOCUMENTS = "天地。\n玄黄。\n\n宇宙。\n洪荒。\n\n日月。\n"
SPLITS = ("train", "dev")
ROWS = [{"sentence1": "天地" * i, "label": "0", "n": 1} for i in range(1, 30)]


def run(script, **values):
    script.main(cli.parse(script.define_flags, [""] + helpers.arguments(values)))


def files_of(folder):
    paths = filter(pathlib.Path.is_file, folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# ------------------------------------------------------------------------------ held_out.py


def test_documents_are_held_out(tmp_path, capsys):
    (tmp_path / "a.txt").write_text(DOCUMENTS, encoding="utf-8")
    run(held_out, corpus=tmp_path / "a.txt", share=0.5, output_dir=tmp_path / "out")
    assert json.loads(capsys.readouterr().out) == {"train": 1, "held_out": 2}
    assert (tmp_path / "out" / "train.txt").read_text(encoding="utf-8") == "宇宙。\n洪荒。\n\n"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("train.txt", DOCUMENTS.encode("utf-8"), "train.txt would be replaced by a part of it"),
        ("a.txt", DOCUMENTS.encode("gb18030"), r"row 1: not UTF-8 text; .*iconv -f GB18030"),
        ("a.txt", DOCUMENTS.encode("utf-8") + b"\xff\n", "row 8: not UTF-8 text; the text before"),
        ("a.txt", DOCUMENTS.encode("utf-16"), "is UTF-16: convert it"),
        ("a.txt", DOCUMENTS.replace("\n\n", "\n").encode("utf-8"), r"1 document\(s\), .*sed G"),
        ("a.txt", b"", r"0 document\(s\)"),
    ],
)
def test_a_corpus_that_cannot_be_split_stays_as_it_is(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        run(held_out, corpus=tmp_path / name, output_dir=tmp_path)
    assert files_of(tmp_path) == {name: content}


@pytest.mark.parametrize("flag", [{"share": 0}, {"share": 5}, {"megabytes": 0}])
def test_a_share_holds_some_out_and_leaves_some(flag, tmp_path):
    with pytest.raises(UserError, match="above 0"):
        run(held_out, corpus=tmp_path / "a.txt", output_dir=tmp_path, **flag)


@pytest.mark.parametrize("flag", ["corpus", "json_lines", "entropy_of"])
def test_a_file_that_cannot_be_read_is_named(flag, tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="cannot read {}: ".format(path)):
            run(held_out, key="text", output_dir=tmp_path / "out", **{flag: path})


@pytest.mark.parametrize(
    "key, line, message",
    [
        ("premise", None, "row 1: no text in the field --key=premise: give one of sentence1, la"),
        ("n", None, "--key=n: give one of sentence1, label"),
        ("label", None, "--key=label has too few different values"),
        ("sentence1", "[1]", "row 30: not a JSON object"),
        ("sentence1", "天地", "row 30: not a JSON object"),
    ],
)
def test_rows_that_cannot_be_split(key, line, message, tmp_path):
    path = tmp_path / "rows.json"
    lines = [json.dumps(row) for row in ROWS] + [line] * bool(line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        run(held_out, json_lines=path, key=key, output_dir=tmp_path)
    assert list(files_of(tmp_path)) == ["rows.json"]


# ----------------------------------------------------------------------------- in_domain.py


def test_a_bad_dev_file_does_not_let_its_texts_in(tmp_path, capsys):
    rows = "天地\t玄黄\t1\n宇宙\t洪荒\t0\n"
    (tmp_path / "train.tsv").write_text(rows, encoding="utf-8")
    task, corpus = "lcqmc:{}".format(tmp_path), tmp_path / "corpus.txt"
    dev = tmp_path / "dev.tsv"
    dev.write_bytes(rows[:8].encode("gb18030"))
    with pytest.raises(UserError, match="dev.tsv, row 1: not UTF-8"):
        run(in_domain, tasks=task, output_file=corpus)
    assert not corpus.exists()
    dev.write_text(rows[:8], encoding="utf-8")
    run(in_domain, tasks=task, output_file=corpus)  # there is no test file
    assert json.loads(capsys.readouterr().out) == {"lcqmc": 1}
    assert "天地" not in corpus.read_text(encoding="utf-8")


def test_a_task_has_a_folder(tmp_path):
    with pytest.raises(UserError, match="lcqmc has no folder: give TASK:FOLDER"):
        run(in_domain, tasks="lcqmc", output_file=tmp_path / "corpus.txt")


# --------------------------------------------------------------------------- both_orders.py


def test_train_pairs_are_written_in_both_orders(tmp_path, capsys):
    for split in ("train", "dev"):
        (tmp_path / (split + ".tsv")).write_text("天地\t玄黄\t1\n宇宙\t洪荒\t0\n", encoding="utf-8")
    out = tmp_path / "out"
    run(both_orders, task="lcqmc", data_dir=tmp_path, output_dir=out)
    assert json.loads(capsys.readouterr().out) == {"train": 4, "dev": 2}
    read = {
        split: tasks.load_examples(tasks.get_task("lcqmc"), str(out), split) for split in SPLITS
    }
    pairs = {split: [(x.text_a, x.text_b, x.label) for x in read[split]] for split in SPLITS}
    assert pairs["dev"] == [("天地", "玄黄", "1"), ("宇宙", "洪荒", "0")]
    assert sorted(pairs["train"]) == sorted(
        pairs["dev"] + [(b, a, label) for a, b, label in pairs["dev"]]
    )


@pytest.mark.parametrize(
    "task, output_dir, words", [("lcqmc", ".", "is --data_dir"), ("tnews", "out", "has no pairs")]
)
def test_both_orders_need_pairs_and_another_folder(tmp_path, task, output_dir, words):
    with pytest.raises(UserError, match=words):
        run(both_orders, task=task, data_dir=tmp_path, output_dir=tmp_path / output_dir)


# ------------------------------------------------------------------------------ simplify.py


def test_a_share_of_the_traditional_documents_becomes_simplified(tmp_path, monkeypatch, capsys):
    """A stand-in for OpenCC changes only 車: half of the characters of traditional documents."""
    convert = types.SimpleNamespace(convert=lambda text: text.replace("車", "车"))
    opencc = types.SimpleNamespace(OpenCC=lambda config: {"t2s": convert}[config])
    monkeypatch.setitem(sys.modules, "opencc", opencc)
    traditional = ["{}車車。\n車。\n".format(number) for number in range(200)]
    simplified = "天地。" * 30 + "車。\n"
    corpus, out = tmp_path / "a.txt", tmp_path / "out.txt"
    corpus.write_text("\n".join(traditional + [simplified]), encoding="utf-8")
    for share, least, most in ((0.5, 80, 120), (1.0, 200, 200), (0.0, 0, 0)):
        run(simplify, input_file=corpus, output_file=out, share=share)
        counts = json.loads(capsys.readouterr().out)
        assert (counts["documents"], counts["traditional"]) == (201, 200)
        assert least <= counts["converted"] <= most
        found = out.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
        assert sum("车" in document for document in found) == counts["converted"]
        assert [x.replace("车", "車") for x in found] == [
            document.rstrip("\n") for document in traditional + [simplified]
        ]


def test_all_texts_of_json_become_simplified_and_keep_their_length(tmp_path, monkeypatch):
    convert = types.SimpleNamespace(
        convert=lambda text: text.replace("車", "车").replace("齣", "一出")
    )
    opencc = types.SimpleNamespace(OpenCC=lambda config: convert)
    monkeypatch.setitem(sys.modules, "opencc", opencc)
    given, out = tmp_path / "a.json", tmp_path / "b.json"
    given.write_text('{"data": [{"車": ["齣車", 1, null]}]}', encoding="utf-8")
    run(simplify, input_file=given, output_file=out)
    assert json.loads(out.read_text(encoding="utf-8")) == {"data": [{"車": ["齣车", 1, None]}]}
    given.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="a.json: not JSON: "):
        run(simplify, input_file=given, output_file=out)


def test_simplify_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(UserError, match=r"OpenCC is missing .*: pip install opencc==1.4.2"):
        run(simplify, input_file=tmp_path / "a.txt", output_file=tmp_path / "b.txt")


# ------------------------------------------------------------------------- results_table.py


def write_report(folder, **metrics):
    folder.mkdir(parents=True)
    report = {"command": "run_classifier.py", "metrics": metrics}
    (folder / "results.json").write_text(json.dumps(report))


def test_runs_without_scores_on_dev_are_left_out(tmp_path, capsys):
    write_report(tmp_path / "lcqmc", eval_accuracy=0.5, eval_macro_f1=0.25)
    write_report(tmp_path / "pretrained", masked_lm_accuracy=0.5)
    write_report(tmp_path / "unfinished")
    run(results_table, folder=tmp_path)
    rows = capsys.readouterr().out.split("\n")
    assert rows[1].split() == ["lcqmc", "50.00", "25.00"] and not any(rows[2:])
    run(results_table, folder=tmp_path)  # its own results.json may be replaced


def test_a_run_of_several_seeds_keeps_its_report(tmp_path):
    write_report(tmp_path / "run", eval_accuracy=0.5, eval_macro_f1=0.25)
    write_report(tmp_path / "run" / "seed_1", eval_accuracy=0.5, eval_macro_f1=0.25)
    before = files_of(tmp_path)
    with pytest.raises(UserError, match="run is a run itself"):
        run(results_table, folder=tmp_path / "run")
    for folder in (tmp_path / "run" / "seed_1", tmp_path / "none"):
        with pytest.raises(UserError, match="is a run itself|holds no folder of a fine-tuning"):
            run(results_table, folder=folder)
    assert files_of(tmp_path) == before and not (tmp_path / "none").exists()


# --------------------------------------------------------------------------- pretrain_tiny.sh


def test_a_folder_without_texts_is_no_corpus(root, tmp_path):
    script = [str(root / "recipes" / "pretrain_tiny.sh"), str(tmp_path), str(tmp_path / "out")]
    ended = subprocess.run(["bash"] + script, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 2 and b"holds no *.txt" in ended.stderr
    assert not list(tmp_path.iterdir())


def ended(root, script, *words, shell="bash"):
    """Return (status, error) of a recipe."""
    command = [shell, str(root / "recipes" / script)] + list(map(str, words))
    process = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    return process.returncode, process.stderr.decode()


@pytest.mark.parametrize(
    "script", ["clue.sh", "continue_pretraining.sh", "pretrain_tiny.sh", "finetune_tiny.sh"]
)
def test_another_shell_hands_over_to_bash(root, script):
    status, error = ended(root, script, shell="sh")
    assert status == 2 and error.startswith("usage: bash recipes/" + script)


def test_a_recipe_that_began_with_other_texts_is_not_continued(root, tmp_path):
    """The recipes call `refuse_other_texts` before their first stage."""
    for name in ("continue_pretraining.sh", "pretrain_tiny.sh"):
        text = (root / "recipes" / name).read_text(encoding="utf-8")
        assert text.index("refuse_other_texts") < text.index("create_data")
    script = '. "$1"; shift; refuse_other_texts "$@"'
    words = [str(root / "recipes" / "same_texts.sh"), str(tmp_path / "out"), str(tmp_path / "a")]

    def status():
        return subprocess.run(["bash", "-c", script, "recipe.sh"] + words, check=False).returncode

    assert status() == 2 and not (tmp_path / "out").exists()
    (tmp_path / "a").write_text(DOCUMENTS, encoding="utf-8")
    assert (status(), status()) == (0, 0)
    (tmp_path / "a").write_text(DOCUMENTS + "盈昃。\n", encoding="utf-8")
    assert status() == 2


def test_mistakes_in_the_words_of_recipes(root, tmp_path):
    (tmp_path / "a.txt").write_text(DOCUMENTS, encoding="utf-8")
    words = [tmp_path / "a.txt", tmp_path / "none.txt", "model", "config.json", tmp_path / "out"]
    status, error = ended(root, "continue_pretraining.sh", *words)
    assert status == 2 and "none.txt does not exist" in error
    status, error = ended(root, "finetune_tiny.sh", tmp_path, tmp_path / "out")
    assert status == 2 and "out holds no model of recipes/pretrain_tiny.sh" in error
    assert not (tmp_path / "out").exists()
