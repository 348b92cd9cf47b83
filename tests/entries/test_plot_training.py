"""plot_training.py: curves of runs, read from their folders and drawn."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import plot_training
from common import cli
from common.errors import UserError


def write_events(folder, steps, loss=lambda step: 10.0 / step, suffix=""):
    with tf.Graph().as_default():
        writer = tf.summary.FileWriter(str(folder), filename_suffix=suffix)
        for step in steps:
            values = {"loss": loss(step), "learning_rate": 0.001 * step, "grad_norm": float("inf")}
            summary = [tf.Summary.Value(tag=tag, simple_value=x) for tag, x in values.items()]
            writer.add_summary(tf.Summary(value=summary), step)
        writer.close()
    return max(folder.glob("events.out.tfevents.*" + suffix))


def write_history(folder, **values):
    lines = [json.dumps(dict(values, global_step=step)) for step in (10, 20)]
    folder.joinpath("eval_history.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    """A run that has shown 20 points and was evaluated twice."""
    folder = tmp_path / "run"
    write_events(folder, range(1, 21))
    write_history(folder, loss=2.5, masked_lm_accuracy=0.25)
    return folder


def run(*words, **flags):
    argv = ["plot_training.py"] + ["--{}={}".format(*item) for item in flags.items()]
    plot_training.main(cli.parse(plot_training.define_flags, argv), [str(word) for word in words])


def test_reads_training_and_evaluations(folder):
    found = plot_training.read_run(str(folder))
    assert [step for step, _ in found.training["loss"]] == list(range(1, 21))
    np.testing.assert_allclose(found.training["loss"][3], (4, 2.5))
    assert found.held_out["masked_lm_accuracy"] == [(10, 0.25), (20, 0.25)]


def test_a_run_that_went_on_after_a_kill_is_one_curve(tmp_path):
    first = write_events(tmp_path, range(1, 9), suffix=".1")
    second = write_events(tmp_path, range(5, 12), loss=float, suffix=".2")
    first.rename(tmp_path / "events.out.tfevents.1000.a")
    second.rename(tmp_path / "events.out.tfevents.2000.a")
    points = plot_training.read_scalars(str(tmp_path))["loss"]
    assert [step for step, _ in points] == list(range(1, 12))
    assert points[3] == (4, 2.5) and points[4] == (5, 5.0)


def test_half_an_event_is_the_end(folder):
    [path] = folder.glob("events*")
    path.write_bytes(path.read_bytes()[:-3])
    assert len(plot_training.read_scalars(str(folder))["loss"]) == 19


def test_texts_and_histograms_of_other_programs_are_left_out(tmp_path):
    with tf.Graph().as_default(), tf.summary.FileWriter(str(tmp_path)) as writer:
        for tag, value in (("text", "{a: 1}"), ("weights", [[0.0, 1.0, 2.0]]), ("loss", 2.0)):
            tensor = tf.make_tensor_proto(value)
            writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag=tag, tensor=tensor)]), 3)
    scalars = plot_training.read_scalars(str(tmp_path))
    assert scalars["loss"] == [(3, 2.0)] and sorted(scalars) == ["hours", "loss"]


@pytest.mark.parametrize("line", ['{"global_step": 30, "loss": ', "[1, 2]", '{"loss": 1}', ""])
def test_a_damaged_history_is_named(folder, line):
    path = folder / "eval_history.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"eval_history.jsonl, row 3: .*: remove this row$"):
        run(folder)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert len(plot_training.read_run(str(folder)).held_out["loss"]) == 2


def test_running_average():
    points = [(1, 4.0), (2, 2.0), (3, 0.0)]
    assert plot_training.smoothed(points, 1) == points
    averages = [value for _, value in plot_training.smoothed(points, 2)]
    np.testing.assert_allclose(averages, [4, (2 + 4 / 2) / 1.5, (2 / 2 + 4 / 4) / 1.75])
    assert plot_training.smoothed(points) == points  # 2% of three points is less than one point


def test_draws_curves_and_published_values(folder):
    figure = plot_training.draw([plot_training.read_run(str(folder))])
    axes = {axis.get_title(loc="left"): axis for axis in figure.axes}
    assert list(axes) == [panel.title for panel in plot_training.PANELS]
    lines = [list(line.get_ydata()) for line in axes["Masked-LM accuracy"].lines]
    assert [0.25, 0.25] in lines and [0.791, 0.791] in lines and [0.809, 0.809] in lines
    assert axes["Loss (nats)"].get_ylim()[1] > 10  # the whole curve
    assert "not recorded" in [text.get_text() for text in axes["Masked-LM loss (nats)"].texts]


def test_last_values_do_not_cover_each_other(folder):
    runs = [plot_training.read_run(str(folder))] * 4
    axis = plot_training.draw(runs).axes[0]
    heights = [text.get_position()[1] for text in axis.texts if text.get_position()[0] > 1]
    assert len(heights) == 4 and min(np.diff(heights)) > 0.99 * plot_training.LINE_HEIGHT


@pytest.mark.parametrize(
    "heights, expected",
    [
        ([], []),
        ([0.25, 0.5, 0.5], [0.25, 0.5, 0.75]),
        ([0.75, 1.0, 1.0], [0.5, 0.75, 1.0]),
    ],
)
def test_spread(heights, expected):
    assert plot_training.spread(heights, 0.25) == expected


def test_writes_a_picture_of_several_runs(folder, tmp_path, capsys):
    other = tmp_path / "other"
    write_events(other, [1, 2])
    run(folder, str(other) + "/")
    assert (folder / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert capsys.readouterr().out == "{}\n".format(folder / "curves.png")
    run(folder, output=tmp_path / "new" / "a.png")
    assert (tmp_path / "new" / "a.png").exists()


def test_a_run_of_fine_tuning_is_told(folder):
    write_history(folder, eval_loss=0.6, eval_accuracy=0.7)
    with pytest.raises(UserError, match="is a run of fine-tuning.*: tensorboard --logdir="):
        run(folder)


def test_the_name_gives_the_format_of_the_picture(folder, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(UserError, match="a.jpg: give a name that ends in .png or .pdf or .svg"):
        run(folder, output=tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()
    for name, begin in (("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.svg", b"<?xml")):
        run(folder, output=tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begin)


def test_mistakes_are_one_line(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="OUT_DIR"):
        run()
    with pytest.raises(UserError, match="nowhere does not exist$"):
        run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="one,two does not exist: separate several runs by spaces"):
        run(tmp_path / "one,two")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no curves: name the --output_dir"):
        run(tmp_path / "empty")
    with pytest.raises(UserError, match="but below it there are runs: give {}$".format(folder)):
        run(folder.parent)
    for name in ("a_finetuned", "b_finetuned"):
        shutil.copytree(str(folder), str(tmp_path / name))
        (tmp_path / name / "classifier.json").write_text("{}")
    with pytest.raises(UserError, match="but below it there are runs: give {}$".format(folder)):
        run(tmp_path)
    (tmp_path / "a.log").write_text("")
    with pytest.raises(UserError, match="a.log holds no curves: name the --output_dir of a run of"):
        run(tmp_path / "a.log")
    (event_file,) = folder.glob("events.*")
    with pytest.raises(UserError, match="it is a file; give the folder of its run, " + str(folder)):
        run(event_file)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r'pip install "\.\[plot\]"'):
        run(folder)
    assert not (folder / "curves.png").exists()


def test_help_tells_the_words(root):
    command = [sys.executable, str(root / "plot_training.py"), "--help"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    assert "usage: plot_training.py OUT_DIR..." in ended.stdout and "--window" in ended.stdout


def test_the_hours_of_a_run_leave_out_the_time_between_its_sessions(tmp_path):
    for number, (begin, second) in enumerate(((1, 1000.0), (5, 90000.0))):
        path = str(tmp_path / "events.out.tfevents.{}".format(number))
        with tf.io.TFRecordWriter(path) as writer:
            for i in range(6):
                value = tf.Summary.Value(tag="loss", simple_value=1.0)
                event = tf.Event(step=begin + i, wall_time=second + 36 * i)
                event.summary.value.append(value)
                writer.write(event.SerializeToString())
    write_history(tmp_path, loss=2.5)
    moved = plot_training.over_hours(plot_training.read_run(str(tmp_path)))
    hours = [0.01 * i for i in (0, 1, 2, 3, 3, 4, 5, 6, 7, 8)]
    np.testing.assert_allclose([x for x, _ in moved.training["loss"]], hours, atol=1e-9)
    np.testing.assert_allclose(moved.held_out["loss"][0], (0.08, 2.5))
    run(tmp_path, x="hours")
    assert (tmp_path / "curves.png").exists()


def test_a_run_without_times_has_no_hours(tmp_path):
    write_history(tmp_path, loss=2.5)
    with pytest.raises(UserError, match="no times, only evaluations: give --x=steps"):
        run(tmp_path, x="hours")
    run(tmp_path, x="steps")
