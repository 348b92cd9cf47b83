"""Rewrite README.md's tables of models and of flags from the code: `python update_readme.py`.

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; the rest is left as it is.
"""

import importlib
import os
import re
import sys
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import flags

import modeling
from finetuning.defaults import DEFAULTS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
README = os.path.join(ROOT, "README.md")
TABLE = re.compile(r"(<!-- begin (.+?) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
# The scripts that define their flags for `common.cli`, in the order of their use.
SCRIPTS = (
    "create_pretraining_data",
    "run_pretraining",
    "run_classifier",
    "predict",
    "convert_checkpoint",
    "export_model",
    "plot_training",
)
# Both define `flags.define_run_flags`; what they have in common is told once.
RUN_SCRIPTS = ("run_pretraining", "run_classifier")


class Published(NamedTuple):
    """What was published of a model, as printed there."""

    name: str
    parameters: str
    file: str


# albert_zh's README; for BERT-Base, Chinese that of google-research/bert.
PUBLISHED = (
    Published("albert_config_tiny", "4M", "16M"),
    Published("albert_config_small", "5M", "18.5M"),
    Published("albert_config_base", "12M", "40M"),
    Published("albert_config_large", "18M", "64M"),
    Published("albert_config_xlarge", "59M", "230M"),
    Published("albert_config_xxlarge", "233M", ""),
    Published("bert_config", "110M", ""),
)


def rendered(text):
    """Return the text of README.md with every table made anew.

    Raises:
        ValueError: for a table that nothing here makes, or one that the text does not have.
    """
    tables = {
        "models": model_table,
        "defaults of fine-tuning": defaults_table,
        "flags of both run scripts": common_flag_table,
    }
    for script in SCRIPTS:
        tables["flags of {}.py".format(script)] = lambda script=script: flag_table(script)
    found = [name for _, name, _ in TABLE.findall(text)]
    if sorted(found) != sorted(tables):
        raise ValueError("README.md has the tables {}, not {}".format(found, list(tables)))
    return TABLE.sub(lambda match: match.group(1) + tables[match.group(2)]() + match.group(3), text)


def model_table():
    """Return the sizes of the models, parameters counted in the graphs of both layouts."""
    header = ("config", "layers", "hidden", "embedding", "heads")
    counted = ("parameters, `albert_zh`", "parameters, `google`", "published", "file published")
    return _markdown(header + counted, [_model_row(published) for published in PUBLISHED])


def _model_row(published):
    counts, heads = [], []
    for name in (published.name, published.name + "_google"):
        path = os.path.join(ROOT, "albert_config", name + ".json")
        if not os.path.exists(path):
            counts.append("")
            continue
        config = modeling.AlbertConfig.from_json_file(path)
        heads.append(config.num_attention_heads)
        counts.append("{:,}".format(sum(modeling.count_parameters(config).values())))
    return (
        "`{}`".format(published.name),
        config.num_hidden_layers,
        config.hidden_size,
        config.embedding_size or "none",
        " / ".join(str(number) for number in sorted(set(heads), reverse=True)),
        counts[0],
        counts[1],
        published.parameters,
        published.file,
    )


def common_flag_table():
    """Return the flags that both run scripts have with equal default and meaning."""
    return _flag_rows(_common_flags())


def flag_table(script):
    """Return the flags of a script, without those that both run scripts have in common."""
    common = _common_flags() if script in RUN_SCRIPTS else ()
    return _flag_rows([flag for flag in script_flags(script) if flag not in common])


def defaults_table():
    """Return a row for each size of `defaults.DEFAULTS`."""
    rows = [
        [known.model, known.hidden_size, "{:g}".format(known.learning_rate)]
        + [known.train_batch_size, "{:g}".format(known.num_train_epochs), known.source]
        for known in DEFAULTS
    ]
    return _markdown(("model", "H", "learning rate", "batch", "epochs", "source"), rows)


def script_flags(script):
    """Return the flags of a script in the order of their definition: (name, default, help)."""
    values = flags.FlagValues()
    importlib.import_module(script).define_flags(values)
    own = set(values) - set(flags.FlagValues())
    return [(name,) + _default_and_help(values[name]) for name in values if name in own]


def _common_flags():
    first, second = (script_flags(script) for script in RUN_SCRIPTS)
    return [flag for flag in first if flag in second]


def _default_and_help(flag):
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    default = "" if default in (None, "") else "`{}`".format(default)
    if any("must have a value" in str(check.message) for check in flag.validators):
        default = "**needed**"
    choices = getattr(flag.parser, "enum_values", None)
    if choices:  # absl puts them before the help, as <a|b>
        shown = "{} of {}".format(default or "one", ", ".join(choices))
        return shown, flag.help.partition(">: ")[2]
    return default, flag.help


def _flag_rows(found):
    rows = [("`--{}`".format(name), default, text) for name, default, text in found]
    return _markdown(("flag", "default", "meaning"), rows)


def _markdown(header, rows):
    lines = [header, ["---"] * len(header)] + list(rows)
    return "".join(
        "| {} |\n".format(" | ".join(str(cell).replace("|", "\\|") for cell in line))
        for line in lines
    )


def main():
    """Rewrite README.md where a table has changed; returns the exit status."""
    with open(README, encoding="utf-8") as stream:
        text = stream.read()
    changed = rendered(text)
    if changed != text:
        with open(README, "w", encoding="utf-8") as stream:
            stream.write(changed)
    print("README.md " + ("rewritten" if changed != text else "is current"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
