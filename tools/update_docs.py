"""Writes the tables of README.md, README.zh.md and docs/: `python -m tools.update_docs`.

A table is between `<!-- begin NAME -->` and `<!-- end NAME -->`, where NAME is a key of `TABLES`.
The rest of the file stays as it is.
"""

import ast
import functools
import importlib
import pathlib
import re

from common import tensorflow_settings

tensorflow_settings.set_environment()

from absl import flags

import modeling
from common import config_fields
from finetuning.defaults import DEFAULTS

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "README.zh.md") + tuple(sorted(ROOT.glob("docs/*.md")))
TABLE = re.compile(r"(<!-- begin (.+?) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
# The entry scripts in the order of their use.
SCRIPTS = (
    "create_pretraining_data",
    "run_pretraining",
    "run_classifier",
    "run_mrc",
    "run_ner",
    "predict",
    "convert_checkpoint",
    "export_model",
    "plot_training",
)
# Scripts that share flags; a flag is in the section of the first group whose scripts all have it.
FINETUNING_SCRIPTS = ("run_classifier", "run_mrc", "run_ner")
GROUPS = {
    "run_pretraining.py and fine-tuning": ("run_pretraining",) + FINETUNING_SCRIPTS,
    "Fine-tuning: run_classifier.py, run_mrc.py and run_ner.py": FINETUNING_SCRIPTS,
}
# Config -> parameters and file size as published: in albert_zh's README, and for BERT-Base, Chinese
# in the README of google-research/bert.
PUBLISHED = {
    "albert_config_tiny": ("4M", "16M"),
    "albert_config_small": ("5M", "18.5M"),
    "albert_config_base": ("12M", "40M"),
    "albert_config_large": ("18M", "64M"),
    "albert_config_xlarge": ("59M", "230M"),
    "albert_config_xxlarge": ("233M", ""),
    "bert_config": ("110M", ""),
}


def rendered(text):
    """Return the text of a page with all tables rewritten; KeyError for an unknown table."""
    return TABLE.sub(lambda match: match.group(1) + TABLES[match.group(2)]() + match.group(3), text)


def flag_tables():
    """Return a section of flags for each script, and for each group of scripts."""
    own = {script: script_flags(script) for script in SCRIPTS}
    shared = {}
    for name, scripts in GROUPS.items():
        first, others = own[scripts[0]], [own[script] for script in scripts[1:]]
        shared[name] = [flag for flag in first if all(flag in flags_of for flags_of in others)]
        for script in scripts:
            own[script] = [flag for flag in own[script] if flag not in shared[name]]
    sections = dict({script + ".py": own[script] for script in SCRIPTS}, **shared)
    header = ("flag", "default", "meaning")
    tables = ["## {}\n\n{}".format(name, markdown(header, sections[name])) for name in sections]
    return "\n".join(tables)


def script_flags(script):
    """Return the flags of a script in the order of their definition: (--name, default, help)."""
    values = flags.FlagValues()
    importlib.import_module(script).define_flags(values)
    own = set(values) - set(flags.FlagValues())
    names = [name for name in values if name in own]
    return [("`--{}`".format(name),) + _default_and_help(values[name]) for name in names]


def _default_and_help(flag):
    default = ",".join(flag.default) if isinstance(flag.default, list) else flag.default
    default = "" if default in (None, "") else "`{}`".format(default)
    if any("must have a value" in str(check.message) for check in flag.validators):
        default = "**required**"
    choices = getattr(flag.parser, "enum_values", None)
    if choices:  # absl puts them before the help, as <a|b>
        default = "{} of {}".format(default or "one", ", ".join(choices))
    return default, flag.help.partition(">: ")[2] if choices else flag.help


@functools.lru_cache()
def model_rows():
    """Return the sizes of the models, with the parameters counted in the graphs of both layouts."""
    rows = []
    for name, published in PUBLISHED.items():
        counts, heads = ["", ""], set()
        for place, layout in enumerate(("", "_google")):
            path = ROOT / "albert_config" / (name + layout + ".json")
            if path.exists():
                config = modeling.AlbertConfig.from_json_file(str(path))
                counts[place] = "{:,}".format(sum(modeling.count_parameters(config).values()))
                heads.add(config.num_attention_heads)
        sizes = (config.num_hidden_layers, config.hidden_size, config.embedding_size or "-")
        shown_heads = " / ".join(map(str, sorted(heads, reverse=True)))
        rows.append(("`{}`".format(name),) + sizes + (shown_heads,) + tuple(counts) + published)
    return rows


def defaults_table():
    """Return the settings of fine-tuning for each size of model."""
    rows = [
        [known.model, known.hidden_size, "{:g}".format(known.learning_rate)]
        + [known.train_batch_size, "{:g}".format(known.num_train_epochs), known.source]
        for known in DEFAULTS
    ]
    return markdown(("model", "H", "learning rate", "batch", "epochs", "source"), rows)


def modules_table():
    """Return every module of the product with the first line of its docstring."""
    packages = [path.parent for path in sorted(ROOT.glob("*/__init__.py"))]
    rows = []
    for path in [path for folder in [ROOT] + packages for path in sorted(folder.glob("*.py"))]:
        name = "`{}`".format(path.relative_to(ROOT).as_posix())
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if path.name != "__init__.py":
            rows.append((name, docstring.split("\n")[0]))
    return markdown(("file", "content"), rows)


def config_fields_table():
    """Return what becomes of fields that only published configs have."""
    return markdown(("field", "written by", "here"), config_fields.table_rows())


def markdown(header, rows):
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header)] + list(rows)
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "".join("| {} |\n".format(" | ".join(line)) for line in cells)


_COUNTED = ("`albert_zh`", "`google`")
_MODELS = ("config", "layers", "hidden", "embedding", "heads") + _COUNTED + ("published", "file")
_MODELS_ZH = ("配置", "层数", "隐层", "词嵌入", "头数") + _COUNTED + ("已发布", "文件")
TABLES = {
    "flags": flag_tables,
    "models": lambda: markdown(_MODELS, model_rows()),
    "模型": lambda: markdown(_MODELS_ZH, model_rows()),
    "defaults of fine-tuning": defaults_table,
    "modules": modules_table,
    "fields of published configs": config_fields_table,
}


def main():
    """Rewrite the pages that have changed."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        changed = rendered(text)
        if changed != text:
            path.write_text(changed, encoding="utf-8")
            print("rewritten: {}".format(path.relative_to(ROOT)))


if __name__ == "__main__":
    main()
