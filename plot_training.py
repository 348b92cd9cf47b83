"""Draw the curves of one or several pre-training runs: python plot_training.py OUT_DIR..."""

import io
import itertools
import math
import os
import re
import shlex
from typing import NamedTuple, Tuple

from common import tensorflow_settings

tensorflow_settings.set_environment()

import numpy as np
import tensorflow.compat.v1 as tf

from checkpointing import model_files
from common import cli, files
from common.errors import UserError
from training import best_checkpoint

WORDS = "OUT_DIR..."  # on the command line, beside the flags
PICTURE = "curves.png"
FORMATS = ("png", "pdf", "svg")
EVENT_FILES = "events.out.tfevents.*"
HOURS = "hours"


class Panel(NamedTuple):
    """One diagram of the figure."""

    title: str
    scalar: str  # name in TensorBoard and in the results of evaluations
    references: Tuple[Tuple[str, float], ...] = ()  # (model, published value)
    is_share: bool = False  # whether it is drawn from 0 to 100%
    is_noisy: bool = True  # whether a running average is drawn


# The published values are the results of albert_zh after 125k steps of batch 4096.
PANELS = (
    Panel("Loss (nats)", "loss", (("base", 1.01), ("large", 0.93))),
    Panel("Masked-LM loss (nats)", "masked_lm_loss"),
    Panel("Masked-LM accuracy", "masked_lm_accuracy", (("base", 0.791), ("large", 0.809)), True),
    Panel(
        "Sentence-order accuracy",
        "sentence_order_accuracy",
        (("base", 0.99), ("large", 0.986)),
        True,
    ),
    Panel("Learning rate", "learning_rate", is_noisy=False),
    Panel("Gradient norm, before clipping", "grad_norm"),
)
COLUMNS = 3
# Okabe and Ito's colors, which people with any color vision can distinguish.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT = "#333333", "#8a8a8a"
LINE_HEIGHT = 0.06  # height of a written value, as a share of the panel's height
# The names of the scores of --general_eval_input_file begin with this prefix.
GENERAL = "general_"
OWN_STYLE = {"linewidth": 1, "marker": "o"}
GENERAL_STYLE = {"linewidth": 1, "linestyle": ":", "marker": "s"}


class Run(NamedTuple):
    """The curves of a run."""

    name: str
    training: dict  # scalar -> list of (step, value), in order of steps
    held_out: dict  # the same for evaluations on held-out text


def define_flags(flag_values):
    """Define this script's flags."""
    define = cli.flag_definer(flag_values)
    define.string(
        "output", None, "PNG, PDF or SVG file to write. Default: curves.png in the first folder."
    )
    define.enum("x", "steps", ["steps", "hours"], "Horizontal axis: steps, or hours of training.")
    define.integer(
        "window",
        None,
        "Points in the running average of the training curves. Default: 2% of the points.",
        lower_bound=1,
    )


def main(args, folders):
    """Read the runs, draw them and print the path of the picture."""
    if not folders:
        raise UserError("name the --output_dir of a run: python plot_training.py OUT_DIR...")
    output_format = os.path.splitext(args.output or PICTURE)[1].lstrip(".")
    if output_format not in FORMATS and not files.is_device(args.output):
        text = "--output={}: give a name that ends in .{}"
        raise UserError(text.format(args.output, " or .".join(FORMATS)))
    runs = [read_run(folder.rstrip("/")) for folder in folders]
    if args.x == "hours":
        runs = list(map(over_hours, runs))
    output = args.output or os.path.join(folders[0], PICTURE)
    figure = draw(runs, args.window, args.x)
    picture = io.BytesIO()
    figure.savefig(picture, format=output_format or "png")
    with files.WholeFile(output) as whole:
        whole.write(picture.getvalue())
    print(output)


# ------------------------------------------------------------------------------- reading


def read_run(folder):
    """Read the curves of a run; raises UserError where there are none."""
    if not files.exists(folder):
        advice = ": separate several runs by spaces, not commas" * ("," in folder)
        raise UserError("{} does not exist{}".format(folder, advice))
    held_out = {}
    for step, results in best_checkpoint.read_history(folder).items():
        for name, value in results.items():
            held_out.setdefault(name, []).append((step, value))
    run = Run(folder, read_scalars(folder), held_out)
    if not (run.training or run.held_out):
        raise UserError("{} holds no curves{}".format(folder, _place_of_curves(folder)))
    if any(name.startswith("eval_") for name in run.held_out):
        text = "{0} is a run of fine-tuning, not of pre-training: tensorboard --logdir={0} draws it"
        raise UserError(text.format(folder))
    return run


def _place_of_curves(path):
    """Return the end of a message about a path without curves: which folder has curves."""
    parent = os.path.dirname(path) or "."
    if not files.is_folder(path) and _is_run(parent):
        return ": it is a file; give the folder of its run, " + parent
    below = sorted(filter(_is_run, files.glob(os.path.join(path, "*"))))
    if not below:
        return ": name the --output_dir of a run of run_pretraining.py"
    return ", but below it there are runs: give " + " ".join(map(shlex.quote, below[:3]))


def _is_run(folder):
    """Return whether a folder has curves of pre-training."""
    is_evaluation = re.match("eval(_|$)", os.path.basename(os.path.normpath(folder)))
    is_finetuning = files.exists(os.path.join(folder, model_files.DESCRIPTION))
    has_curves = bool(files.glob(os.path.join(folder, EVENT_FILES)))
    return has_curves and not (is_evaluation or is_finetuning)


def read_scalars(folder):
    """Return the scalars that a run wrote for TensorBoard: name -> list of (step, value).

    A run that continues after a kill writes a new file, which begins at its last checkpoint. Points
    of older files from that step on are left out. The scalar HOURS is the time until each step,
    without the time between the sessions.
    """
    scalars = {}
    for path in sorted(files.glob(os.path.join(folder, EVENT_FILES))):
        first_step = None
        for step, name, value, seconds in _events(path):
            if first_step is None:
                first_step, first_second = step, seconds
                for known, points in scalars.items():
                    scalars[known] = [point for point in points if point[0] < first_step]
                before = scalars.get(HOURS) or [(step, 0.0)]
                hours_before = before[-1][1]
            scalars.setdefault(name, []).append((step, value))
            hours = scalars.setdefault(HOURS, [])
            if not hours or hours[-1][0] < step:
                hours.append((step, hours_before + (seconds - first_second) / 3600))
    return scalars


def over_hours(run):
    """Return a `Run` whose points are (hours, value) instead of (step, value)."""
    if HOURS not in run.training:
        raise UserError("{} has no times, only evaluations: give --x=steps".format(run.name))
    steps, hours = zip(*run.training[HOURS])

    def moved(scalars):
        return {
            name: [(float(np.interp(step, steps, hours)), value) for step, value in points]
            for name, points in scalars.items()
        }

    return Run(run.name, moved(run.training), moved(run.held_out))


def _events(path):
    """Yield (step, name, value, seconds) of each scalar in an event file."""
    verbosity = tf.logging.get_verbosity()
    tf.logging.set_verbosity(tf.logging.ERROR)  # summary_iterator warns that it is deprecated
    try:
        for event in tf.train.summary_iterator(path):
            for value in event.summary.value:
                number = _scalar_of(value)
                if number is not None:
                    yield event.step, value.tag, number, event.wall_time
    except tf.errors.DataLossError:
        return  # the last event is incomplete: the run was killed or still runs
    finally:
        tf.logging.set_verbosity(verbosity)


def _scalar_of(value):
    """Return the number in a value of a summary, None for a text or a histogram."""
    if value.HasField("simple_value"):
        return value.simple_value
    if not value.HasField("tensor"):
        return None
    array = tf.make_ndarray(value.tensor)
    return float(array.item()) if array.size == 1 and array.dtype.kind in "fiub" else None


def smoothed(points, window=None):
    """Return the running average of a curve.

    Args:
        points: list of (step, value).
        window: int, about how many points are averaged: each point has 1 - 1 / window times the
            weight of the next one. None: 2% of the points.
    """
    weight = 1 - 1 / (window or max(1, len(points) / 50))
    total = norm = 0.0
    averages = []
    for step, value in points:
        total = weight * total + value
        norm = weight * norm + 1.0
        averages.append((step, total / norm))
    return averages


# ------------------------------------------------------------------------------- drawing


def draw(runs, window=None, x="steps"):
    """Return a matplotlib figure with a panel for each of `PANELS`.

    Args:
        runs: list of `Run`.
        window: int or None, as in `smoothed`.
        x: str, what the horizontal axis counts.

    Raises:
        UserError: where matplotlib is not installed.
    """
    try:
        from matplotlib import figure, lines
    except ImportError as error:
        raise UserError('matplotlib is missing: pip install ".[plot]"') from error
    drawing = figure.Figure(figsize=(14, 8), dpi=120, facecolor="white")
    axes = drawing.subplots(-(-len(PANELS) // COLUMNS), COLUMNS, sharex=True).flat
    colored = list(zip(runs, itertools.cycle(COLORS)))
    for axis, panel in zip(axes, PANELS):
        for run, color in colored:
            _draw_curves(axis, run, panel, color, window)
        _draw_frame(axis, panel, x)
        _write_last_values(axis, colored, panel)
    handles = [lines.Line2D([], [], color=c, linewidth=3, label=run.name) for run, c in colored]
    handles += [
        lines.Line2D([], [], color=INK, linewidth=1.6, label="training, running average"),
        lines.Line2D([], [], color=INK, label="held out", **OWN_STYLE),
        lines.Line2D([], [], color=FAINT, linestyle="--", label="published"),
    ]
    if any(name.startswith(GENERAL) for run in runs for name in run.held_out):
        style = dict(GENERAL_STYLE, label="held out, general text")
        handles.append(lines.Line2D([], [], color=INK, **style))
    drawing.legend(handles=handles, loc="upper center", ncol=4, frameon=False, fontsize=11)
    rows = -(-len(handles) // 4)
    drawing.tight_layout(rect=(0, 0, 1, 1 - 0.035 * rows), h_pad=2.5, w_pad=2.5)
    return drawing


def _draw_curves(axis, run, panel, color, window):
    points = _finite(run.training.get(panel.scalar, ()))
    if points:
        if panel.is_noisy:
            axis.plot(*zip(*points), color=color, linewidth=0.8, alpha=0.3)
            points = smoothed(points, window)
        axis.plot(*zip(*points), color=color, linewidth=1.8)
    _draw_evaluations(axis, run.held_out.get(panel.scalar, ()), panel, color, OWN_STYLE)
    general = run.held_out.get(GENERAL + panel.scalar, ())
    _draw_evaluations(axis, general, panel, color, GENERAL_STYLE)


def _draw_evaluations(axis, points, panel, color, style):
    points = _finite(points)
    if points:
        marks = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.8}
        axis.plot(*zip(*points), color=color, **marks, **style)


def _write_last_values(axis, colored, panel):
    """Write the last held-out values to the right of a panel, one above the other."""
    scalars = (panel.scalar, GENERAL + panel.scalar)
    curves = [
        (_finite(run.held_out.get(scalar, ())), color)
        for run, color in colored
        for scalar in scalars
    ]
    ends = sorted((points[-1][1], color) for points, color in curves if points)
    heights = spread([value / axis.get_ylim()[1] for value, _ in ends], LINE_HEIGHT)
    for (value, color), height in zip(ends, heights):
        style = {"color": color, "fontweight": "bold", "fontsize": 10, "va": "center"}
        axis.text(1.01, height, _number(value, panel), transform=axis.transAxes, **style)


def spread(heights, distance):
    """Return rising heights, moved up where two of them are closer than a distance.

    If the highest would pass 1, all of them move down together.

    >>> spread([0.25, 0.5, 0.5], 0.25)
    [0.25, 0.5, 0.75]
    >>> spread([0.75, 1.0, 1.0], 0.25)
    [0.5, 0.75, 1.0]
    """
    moved = []
    for height in heights:
        moved.append(max(height, moved[-1] + distance) if moved else height)
    excess = max(0, moved[-1] - 1) if moved else 0
    return [height - excess for height in moved]


def _finite(points):
    return [point for point in points if point[1] is not None and math.isfinite(point[1])]


def _draw_frame(axis, panel, x):
    """Draw the published values, the scales and the title."""
    drawn = [value for line in axis.lines for value in line.get_ydata()]
    if not drawn:
        nowhere = {"xycoords": "axes fraction", "ha": "center", "color": FAINT}
        axis.annotate("not recorded", (0.5, 0.5), **nowhere)
    values = [value for _, value in panel.references]
    for value in values:
        axis.axhline(value, color=FAINT, linewidth=1, linestyle="--", zorder=0)
    if values:
        names = "  ".join(model + " " + _number(value, panel) for model, value in panel.references)
        left = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "top"}
        axis.annotate(names, (0.01, min(values)), (0, -4), color=FAINT, fontsize=9, **left)
    axis.set_ylim(0, 1.1 if panel.is_share else 1.1 * max(drawn + values + [1e-9]))
    if panel.is_share:
        axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "20%", "40%", "60%", "80%", "100%"])
    else:
        axis.yaxis.set_major_formatter(lambda value, _: "{:g}".format(float("%.3g" % value)))
    axis.xaxis.set_major_formatter(lambda step, _: _short(step))
    axis.set_xlim(left=0)
    axis.set_title(panel.title, loc="left", color=INK, fontsize=12, fontweight="bold")
    axis.set_xlabel(x, color=INK)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, length=0, labelbottom=True)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color("#b0b0b0")


def _number(value, panel):
    return "{:.1%}".format(value) if panel.is_share else "{:.2f}".format(value)


def _short(step):
    return "{:g}k".format(step / 1000) if abs(step) >= 1000 else "{:g}".format(step)


if __name__ == "__main__":
    cli.run(main, define_flags, WORDS)
