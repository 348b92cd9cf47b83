"""README.md says what the code is: tables, commands, files and links."""

import importlib
import re
import shlex

import pytest

from common import cli
from tools import update_docs

with open(update_docs.README, encoding="utf-8") as stream:
    TEXT = stream.read()
FENCES = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
SCRIPT = re.compile(r"^(?:nohup )?python3? (\w+)\.py\b")


def commands():
    """Return (script, words behind its name) for every command of README.md with an entry."""
    found = []
    for line in "".join(FENCES).replace("\\\n", " ").split("\n"):
        line = line.split("#")[0].strip().rstrip("&").strip()
        match = SCRIPT.match(line)
        if match and match.group(1) in update_docs.SCRIPTS:
            found.append((match.group(1), shlex.split(line[match.end() :])))
    return found


def test_tables_are_current():
    assert update_docs.rendered(TEXT) == TEXT, "run: python update_readme.py"


def test_every_entry_has_a_table(root):
    entries = [path.stem for path in root.glob("*.py") if "\ndef define_flags(" in path.read_text()]
    assert sorted(entries) == sorted(update_docs.SCRIPTS)


def test_every_flag_stands_in_the_tables():
    for script in update_docs.SCRIPTS:
        for name, default, text in update_docs.script_flags(script):
            row = "| `--{}` | {} | {} |\n".format(name, default, text.replace("|", "\\|"))
            assert row in TEXT, script


def test_a_stale_table_is_found():
    stale = TEXT.replace("| `--dupe_factor` | `10` |", "| `--dupe_factor` | `11` |")
    assert stale != TEXT and update_docs.rendered(stale) == TEXT
    with pytest.raises(ValueError, match="models"):
        update_docs.rendered(TEXT.replace("<!-- begin models -->", ""))


def test_commands_have_flags_that_exist():
    found = commands()
    assert {script for script, _ in found} >= set(update_docs.RUN_SCRIPTS)
    for script, words in found:
        if words != ["--help"]:
            module = importlib.import_module(script)
            cli.parse(module.define_flags, [script] + words, getattr(module, "WORDS", None))


def test_layout_names_every_file(root):
    layout = TEXT.partition("## Layout of the code\n")[2].partition("\n## ")[0]
    patterns = ("*.py", "*.sh", "pipeline/*.py", "recipes/*.*", "benchmarks/*.py")
    names = [
        path.relative_to(root).as_posix() if path.parent.name == "pipeline" else path.name
        for pattern in patterns
        for path in root.glob(pattern)
        if path.name != "__init__.py"
    ]
    assert [name for name in names if "`{}`".format(name) not in layout] == []
    for name in re.findall(r"`((?:pipeline|tests|data|recipes)/[\w/.]*)`", layout):
        assert (root / name).exists(), name


def test_links_lead_somewhere():
    slugs = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    targets = re.findall(r"\]\(#([^)]*)\)", TEXT)
    assert targets and set(targets) <= slugs
