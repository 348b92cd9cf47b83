"""The checks of a run of fine-tuning that need no model: flags that contradict each other."""

import pytest

import run_classifier
import run_mrc
import run_ner
from checkpointing import model_files
from common import cli
from common.errors import UserError
from finetuning import run_checks
from kinds.registry import kind_of


def parsed(script, task, *flags):
    """Return the parsed flags of a command, and the kind of its task."""
    words = ["bert_config_file=c.json", "data_dir=d", "output_dir=o", "task_name=" + task]
    words = ["--" + word for word in words + list(flags)]
    return cli.parse(script.define_flags, [script.__name__ + ".py"] + words), kind_of(
        script.KINDS, task
    )


@pytest.mark.parametrize(
    "script, task, other",
    [
        (run_ner, "LCQMC", "run_classifier.py"),
        (run_classifier, "ner", "run_ner.py"),
        (run_classifier, "cmrc2018", "run_mrc.py"),
    ],
)
def test_a_task_of_another_script_is_named(script, task, other):
    with pytest.raises(UserError, match="task {} belongs to {}: run that".format(task, other)):
        kind_of(script.KINDS, task)


@pytest.mark.parametrize(
    "script, task, flag, use, remedy",
    [
        (run_mrc, "squad", "n_best=3", "--do_predict=True", "do_predict=True"),
        (run_mrc, "squad", "no_answer_threshold=1.0", "--allow_no_", "allow_no_answer=True"),
        (run_ner, "ner", "crf_rate_factor=2.0", "--crf=True", "crf=True"),
        (run_classifier, "choices", "labels=0,1", "tasks of classification", None),
        (run_classifier, "c3", "header=yes", "tasks of classification", None),
        (run_classifier, "chid", "test_header=no", "tasks of classification", None),
        (run_classifier, "sentence", "max_choices=3", "tasks of choices", None),
    ],
)
def test_a_flag_that_the_run_ignores_is_left_out(script, task, flag, use, remedy):
    with pytest.raises(UserError) as error:
        run_checks.check_flags(*parsed(script, task, "do_train=True", flag))
    assert str(error.value).startswith("--{} is for {}".format(flag, use))
    assert str(error.value).endswith("so this run ignores it: leave it out")
    run_checks.check_flags(*parsed(script, task, "do_train=True"))
    if remedy:
        run_checks.check_flags(*parsed(script, task, "do_train=True", flag, remedy))


@pytest.mark.parametrize(
    "script, task, flag, words",
    [
        (run_ner, "ner", "labels=O,A,B", "labels O, A, B: O means no entity: leave it out"),
        (run_classifier, "c3", "max_seq_length=5", "=5 has no room for a choice and what it is"),
    ],
)
def test_values_that_a_kind_of_task_refuses(script, task, flag, words):
    args, kind = parsed(script, task, "do_train=True", flag)
    with pytest.raises(UserError, match=words):
        kind.read(args, ["train"], [])


def test_a_choice_needs_room():
    for length, words in ((15, "give at least 16"), (16, "no train file of task c3")):
        args, kind = parsed(run_classifier, "c3", "max_seq_length={}".format(length))
        with pytest.raises(UserError, match=words):
            kind.read(args, ["train"], [])


@pytest.mark.parametrize("trained", [True, False])
def test_a_run_goes_on_with_the_crf_that_it_began_with(trained, tmp_path):
    (tmp_path / "vocab.txt").write_text("a\n")
    description = model_files.Description(
        "ner", ["O", "B-A"], 8, {}, str(tmp_path / "vocab.txt"), settings={"crf": trained}
    )
    model_files.write(str(tmp_path), description)
    args, kind = parsed(
        run_ner, "ner", "do_train=True", "crf={}".format(not trained), "label_scheme=bio"
    )
    with pytest.raises(UserError, match="trained with --crf={}: give this flag".format(trained)):
        kind.read(args, ["train"], [str(tmp_path)])
    given = ["do_train=True", "crf={}".format(trained), "label_scheme=bio"]
    args, _ = parsed(run_ner, "ner", *given)
    with pytest.raises(UserError, match="no train file of task ner"):
        kind.read(args, ["train"], [str(tmp_path)])
