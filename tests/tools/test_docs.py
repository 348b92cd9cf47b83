"""README.md, README.zh.md and docs/ agree with the code: tables, commands, files and links."""

import importlib
import re
import shlex
import unicodedata

import pytest

from common import cli
from tools import update_docs

README, README_ZH = update_docs.PAGES[:2]
TEXTS = {path: path.read_text(encoding="utf-8") for path in update_docs.PAGES}
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
README_BYTES, PROSE_COLUMNS = 14336, 120
every_page = pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)


def fenced(path, language):
    """Return the text between all fences of a language, continued lines joined, no comments."""
    blocks = [block for name, block in FENCE.findall(TEXTS[path]) if name == language]
    lines = "".join(blocks).replace("\\\n", " ").split("\n")
    return [line.split(" #")[0].strip() for line in lines if not line.startswith("#")]


def entry_commands(path):
    """Return (script, words after its name) for every command of a page that runs an entry."""
    matches = [re.match(r"(?:nohup )?python3? (\w+)\.py\b(.*)", x) for x in fenced(path, "sh")]
    commands = [(match.group(1), match.group(2).rstrip("& ")) for match in matches if match]
    return [(name, shlex.split(rest)) for name, rest in commands if name in update_docs.SCRIPTS]


def anchors(text):
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", x).strip().lower().replace(" ", "-") for x in headings}


@every_page
def test_tables_are_current(path):
    assert update_docs.rendered(TEXTS[path]) == TEXTS[path], "run: python -m tools.update_docs"


def test_every_table_stands_in_a_page():
    names = [name for text in TEXTS.values() for _, name, _ in update_docs.TABLE.findall(text)]
    assert sorted(names) == sorted(update_docs.TABLES)


def test_a_stale_table_is_rewritten():
    text = TEXTS[README]
    stale = text.replace("| `albert_config_tiny` | 4 |", "| `albert_config_tiny` | 5 |")
    assert stale != text and update_docs.rendered(stale) == text


def test_every_flag_of_every_entry_is_listed(root):
    entries = [path.stem for path in root.glob("*.py") if "\ndef define_flags(" in path.read_text()]
    assert sorted(entries) == sorted(update_docs.SCRIPTS)
    for script in entries:
        for row in update_docs.script_flags(script):
            line = "| {} |\n".format(" | ".join(row[:2] + (row[2].replace("|", "\\|"),)))
            assert line in TEXTS[root / "docs" / "flags.md"], script


@every_page
def test_commands_parse(path):
    for script, words in entry_commands(path):
        module = importlib.import_module(script)
        cli.parse(module.define_flags, [script] + words, getattr(module, "WORDS", None))


def test_readme_shows_every_kind_of_command():
    shown = {script for script, _ in entry_commands(README)}
    assert shown == set(update_docs.SCRIPTS) - {"export_model"}


def test_the_chinese_readme_has_the_same_commands():
    for language in ("sh", "python"):
        assert fenced(README_ZH, language) == fenced(README, language)


@pytest.mark.parametrize("path", [README, README_ZH], ids=lambda path: path.name)
def test_readme_names_every_file_of_the_root_and_every_folder(root, path):
    paths = [*root.glob("*.py"), *root.glob("*.sh"), *root.glob("*/*.py"), *root.glob("docs/*.md")]
    names = {part.relative_to(root).as_posix() for part in paths}
    names = {name if name.startswith("docs/") else re.sub("/.*", "/", name) for name in names}
    assert {
        x for x in names if "`{}`".format(x) not in TEXTS[path] and x + ")" not in TEXTS[path]
    } == set()
    layout = re.search(r"^\| 6 \|.*?\n\n", TEXTS[path], re.MULTILINE | re.DOTALL).group(0)
    named = [name for name in re.findall(r"`([\w/.]+)`", layout) if name != "Predictor"]
    assert [name for name in named if not (root / name).exists()] == []


@every_page
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)]*)\)", TEXTS[path]):
        target, _, anchor = link.partition("#")
        if not link.startswith("https://"):
            linked = (path.parent / target).resolve() if target else path
            assert linked.exists(), link
            assert not anchor or anchor in anchors(TEXTS[linked]), link


def test_places_in_the_code_exist(root):
    page = (root / "docs" / "code.md").read_text(encoding="utf-8")
    table = page.split("## Find something")[1].split("\n## ")[0]
    places = [row.split(" | ")[1:] for row in re.findall(r"^\| (.* \|)$", table, re.MULTILINE)[2:]]
    assert places
    for paths, names in places:
        paths, names = (re.findall("`(.*?)`", cell) for cell in (paths, names))
        code = "".join((root / path).read_text(encoding="utf-8") for path in paths)
        definition = r"^(def |class )?{}\b"
        lost = [x for x in names if not re.search(definition.format(x), code, re.MULTILINE)]
        assert lost == [], paths


@every_page
def test_prose_fits_the_screen(path):
    for line in FENCE.sub("", TEXTS[path]).split("\n"):
        wide = sum(unicodedata.east_asian_width(character) in "WF" for character in line)
        assert line.startswith("|") or len(line) + wide <= PROSE_COLUMNS, line


def test_readme_is_short():
    assert README.stat().st_size <= README_BYTES
