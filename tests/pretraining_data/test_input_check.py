"""Files of another format are refused with a remedy that works; texts are never refused."""

import bz2
import csv
import difflib
import gzip
import io
import json
import lzma
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import zipfile

import pytest

from common import file_types
from common.errors import UserError
from pretraining_data import corpus, input_check

OBJECTS = [{"id": str(i), "title": "标题{}".format(i), "content": "正文。"} for i in range(30)]
TEXT = "一。\n二。\n\n三。\n"
LINES = "\n".join(json.dumps(each, ensure_ascii=False) for each in OBJECTS)
PAGE = '<doc id="1" url="x" title="数学">\n数学\n\n正文。\n</doc>\n'
CSV = "\ufeffid,title,content\r\n" + "".join(
    '{id},{title},"一，,二\n三""四"""\r\n'.format(**each) for each in OBJECTS
)
TSV = "\ttitle\tcontent\n" + "".join('\t{title}\t他说"一\n'.format(**each) for each in OBJECTS)
QUOTED_TSV = "".join(
    '"{id}"\t"{title}"\t"{content}"\n'.format(**each)
    for each in [dict(zip(*[OBJECTS[0]] * 2))] + OBJECTS
)
# TEXT as zstd compresses it.
ZSTD = bytes.fromhex("28b52ffd0458b10000e4b880e380820ae4ba8ce380820a0ae4b889e380820a8111bdba")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n".format("0" * 64)
HTML = "<p>一。</p>\n二。&nbsp;\n<div class='a'>三<br>\n四\n"


def archive(mode):
    """Return the bytes of a tar archive that holds a file `a`."""
    stream, data = io.BytesIO(), TEXT.encode("utf-8")
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        member = tarfile.TarInfo("a")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def zipped(name):
    """Return the bytes of a ZIP archive that holds a file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive_:
        archive_.writestr(name, TEXT.encode("utf-8"))
    return stream.getvalue()


def check(path, data, name="text", fields=("title", "content"), **changes):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    format_ = corpus.Format(name, fields, **changes)
    input_check.check_inputs([str(path)], format_)
    blocks = list(corpus.read_blocks(0, str(path), 1, format_))
    return [doc for block in blocks for doc in corpus.parse_documents(block, format_).documents]


@pytest.mark.parametrize(
    "data, name, flag",
    [
        (LINES, "text", "--input_format=jsonl"),
        (gzip.compress(LINES.encode("utf-8")), "text", "--input_format=jsonl"),
        ("\ufeff\n" + LINES, "wikiextractor", "--input_format=jsonl"),
        ('{"title": "%s"}' % ("长" * 40000), "text", "--input_format=jsonl"),
        (PAGE, "text", "--input_format=wikiextractor"),
        (PAGE, "jsonl", "--input_format=wikiextractor"),
        (TEXT, "jsonl", "--input_format=text"),
        (TEXT, "wikiextractor", "--input_format=text"),
        (HTML, "text", "--strip_html=True"),
        (HTML, "text", "--strip_html=False"),
        ('{"title": "<p>一<\\/p>&nbsp;"}', "jsonl", "--strip_html=True"),
        (PAGE.replace("正文", "正文&lt;br&gt;&lt;br&gt;"), "wikiextractor", None),
    ],
)
def test_the_flag_that_is_named_works(tmp_path, data, name, flag):
    path = tmp_path / "wiki_00"
    if flag is None:  # HTML in one line of three is no error
        assert check(path, data, name)
        return
    with pytest.raises(UserError) as raised:
        check(path, data, name)
    assert str(raised.value).startswith(str(path))
    assert flag in str(raised.value)
    option, value = flag[2:].split("=")
    changes = {"name": value} if option == "input_format" else {"strip_html": value == "True"}
    assert check(path, data, **dict({"name": name}, **changes))


@pytest.mark.parametrize(
    "data, name, tool",
    [
        (json.dumps(OBJECTS, indent=2), "text", "python3"),
        (json.dumps(OBJECTS, ensure_ascii=False), "jsonl", "python3"),
        ("\n".join(json.dumps(each, indent=1) for each in OBJECTS), "jsonl", "jq"),
        (CSV, "text", "python3"),
        (CSV, "jsonl", "python3"),
        (TSV, "text", "python3"),
        (TSV, "jsonl", "python3"),
        (QUOTED_TSV, "text", "python3"),
        (TEXT.replace("\n", "\r"), "text", "tr '"),
        (archive("w"), "text", "tar xf"),
        (archive("w:gz"), "text", "tar xf"),
        (TEXT.encode("utf-16"), "text", "iconv"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "text", "iconv"),
        (bz2.compress(TEXT.encode("utf-8")), "text", "bunzip2"),
        (lzma.compress(TEXT.encode("utf-8")), "text", "unxz"),
        (ZSTD, "text", "unzstd"),
        (zipped("a"), "text", "unzip"),
        (TEXT.encode("utf-16-le"), "text", "iconv"),
        (TEXT.encode("utf-16-be"), "text", "iconv"),
    ],
)
def test_the_command_that_is_named_works(tmp_path, data, name, tool, monkeypatch):
    """If the user types the command of the message, it makes a file that can be read."""
    monkeypatch.chdir(tmp_path)  # where tar unpacks
    path = tmp_path / "a b.json"
    with pytest.raises(UserError) as raised:
        check(path, data, name)
    message = str(raised.value)
    assert "\n" not in message
    assert data != CSV or "--text_fields id, title, content JSON" in message
    if not shutil.which(tool.split()[0]):
        pytest.skip("{} is not installed".format(tool))
    command = message[message.index(tool) :].replace("NEW_FILE", shlex.quote(str(tmp_path / "a")))
    subprocess.run(command, shell=True, check=True)
    is_json = path.suffix == ".json" and tool in ("python3", "jq")
    documents = check(tmp_path / "a", (tmp_path / "a").read_bytes(), "jsonl" if is_json else "text")
    assert len(documents) == (len(OBJECTS) if is_json else 2)


@pytest.mark.parametrize(
    "data, message",
    [
        (POINTER, "git lfs pull"),
        (bytes(range(256)) * 9, "binary"),
        (b"\x20\0\0\0\0\0\0\0abcd\n\x0a\x12\n\x01\x02\x03" * 9, "binary"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, message):
    with pytest.raises(UserError, match=message):
        check(tmp_path / "a", data)


def test_text_in_a_field_that_is_not_named_is_found_at_once(tmp_path):
    line = '{"title": "一", "text": "二三四。"}\n'
    with pytest.raises(UserError, match="text in content: give --text_fields=title,text, and"):
        check(tmp_path / "a.json", line * 3, "jsonl")
    check(tmp_path / "a.json", line * 3, "jsonl", fields=("text", "content"))


def test_html_in_escapes_of_json_is_found(tmp_path):
    line = '{"text": "\\u003cp\\u003e一。\\u0026nbsp;"}\n'
    with pytest.raises(UserError, match="holds HTML .<p>."):
        check(tmp_path / "a.json", line, "jsonl", fields=("text",))


def test_pipes_and_empty_files_are_refused_before_the_work(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    for name, message in (("pipe", "is a pipe: write its text to a file first"), ("a", "no text")):
        if name == "a":
            (tmp_path / "a").write_bytes(b" \n\n")
        with pytest.raises(UserError, match=message):
            input_check.check_inputs([str(tmp_path / name)], corpus.TEXT)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "标题,内容\r一\n二\r三,四\n五,六\n",
        "一\0。\n二\x1b。\n",
        "text\tcontent\n一。\n二。\n三。\n",
        '{"a": 1} 是一个例子。\n二。\n',
        "[\n三\n",
        "[1] 参考文献\n[2] 同上\n",
        "{\n他说：\n",
        "正文里有 <br> 和 &nbsp;。\n二。\n三。\n",
        "a < b 且 c > d\n<名>\nAT&T; R&D\n",
        "例：\n" + LINES,
        "标题,内容\n",
        "text,content\n一。\n二。\n三，四。\n",
        "床前明月光,疑是地上霜\n举头望明月,低头思故乡\n春眠不觉晓,处处闻啼鸟\n",
        "正文,第一章\n他说,好。\n她说，不好。\n我说。\n",
        "GBK".encode("utf-8") + "一二三\n".encode("gb18030"),
    ],
)
def test_a_text_is_not_refused(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    input_check.check_inputs([str(path)], corpus.TEXT)


def test_bad_lines_among_json_lines_are_left_to_the_parser(tmp_path):
    data = "not json\n" + LINES
    assert len(check(tmp_path / "a", data, "jsonl", skip_bad_lines=True)) == len(OBJECTS)
    with pytest.raises(UserError, match="line 1: not JSON"):
        check(tmp_path / "a", data, "jsonl")


def test_the_command_that_removes_the_quotes_of_lines_works(tmp_path, caplog):
    rows = [[line] for line in ('他说"一"。', "二。", "", "三。")]
    with open(str(tmp_path / "a b"), "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(rows)
    for is_told in (True, False):
        caplog.clear()
        with caplog.at_level("WARNING", logger="absl"):
            input_check.check_inputs([str(tmp_path / "a b")], corpus.TEXT)
        assert ("QUOTED LINES: " in caplog.text) == is_told
        if is_told:
            command = re.search("sed .* > NEW_FILE", caplog.text).group(0)
            subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
            (tmp_path / "NEW_FILE").replace(tmp_path / "a b")
    text = (tmp_path / "a b").read_text(encoding="utf-8")
    assert text.splitlines() == [row[0] for row in rows]


@pytest.mark.parametrize(
    "row, columns", [("怎么{0}\t如何{0}\t{1}", "1,2"), ("{1}\t评论{0}", "2")], ids=["last", "first"]
)
def test_labels_of_a_table_are_told_and_left_out(tmp_path, row, columns, caplog):
    path = tmp_path / "a table.txt"
    with caplog.at_level("WARNING"):
        check(path, "".join(row.format(i, i % 2) + "\n" for i in range(9)))
    assert "LABELS: the lines of {}".format(path) in caplog.text
    command = caplog.messages[-1].rpartition(": ")[2]
    assert command.startswith("cut -f {} ".format(columns))
    command = command.replace("NEW_FILE", shlex.quote(str(tmp_path / "new.txt")))
    subprocess.check_call(["bash", "-c", command])
    text = (tmp_path / "new.txt").read_text(encoding="utf-8")
    assert text.split() == [
        x for i in range(9) for x in row.format(i, i % 2).split("\t") if len(x) > 1
    ]
    caplog.clear()
    check(path, "".join("上联{0}\t下联{0}\n".format(i) for i in range(9)))  # texts, no labels
    assert not caplog.text


@pytest.mark.parametrize(
    "row, column",
    [
        (lambda i: "标题{}\tnews_entertainment_{}".format(i, i % 15), 2),
        (lambda i: "C{}-{}\t标题{}".format(i, i % 7, i), 1),
        (lambda i: "标题{}".format(i) + "\t好评" * (i != 3), 2),
    ],
    ids=["many long labels", "a class for every row", "a row without its label"],
)
def test_labels_of_many_classes_are_told(tmp_path, row, column, caplog):
    with caplog.at_level("WARNING"):
        check(tmp_path / "train.tsv", "".join(row(i) + "\n" for i in range(60)))
    assert "LABELS: " in caplog.text and "and cell {} has".format(column) in caplog.text


@pytest.mark.parametrize("mark", ["\t", ","])
def test_numbers_of_lines_are_told_and_left_out(tmp_path, mark, caplog):
    path, texts = tmp_path / "a table.txt", ["第{}行，天。".format(i) for i in range(9)]
    rows = ["{}{}{}\n".format(i, mark, text) for i, text in enumerate(texts)]
    with caplog.at_level("WARNING"):
        check(path, "".join(rows[:5]) + "\n" + "".join(rows[5:]))
    [message] = caplog.messages
    assert message.startswith("NUMBERS: every line")
    command = message.rpartition(": ")[2].replace(
        "NEW_FILE", shlex.quote(str(tmp_path / "new.txt"))
    )
    subprocess.check_call(["bash", "-c", command])
    caplog.clear()
    assert check(tmp_path / "new.txt", (tmp_path / "new.txt").read_bytes()) == [
        texts[:5],
        texts[5:],
    ]
    assert not caplog.messages


@pytest.mark.parametrize("mark", ["[SEP]", "<|endoftext|>", "----", "* * *"])
def test_marks_between_documents_are_told_and_made_blank(tmp_path, mark, caplog):
    texts = ["第{}行，天。".format(i) for i in range(9)]
    with caplog.at_level("WARNING"):
        check(tmp_path / "a=b c.txt", "\r\n{}\n".format(mark).join(texts))
    [message] = caplog.messages
    assert message.startswith("MARKS: 8 lines") and repr(mark) in message
    command = message.rpartition("there: ")[2].replace("NEW_FILE", "new.txt")
    subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
    caplog.clear()
    new = (tmp_path / "new.txt").read_bytes()
    assert check(tmp_path / "new.txt", new) == [[text] for text in texts]
    assert not caplog.messages


def test_repeated_words_are_no_marks(tmp_path, caplog):
    check(tmp_path / "a.txt", "好的。\n" * 9 + "天\n地\n")
    check(tmp_path / "b.txt", "ok\n" * 9 + "yes\nno\n")
    assert not caplog.messages


def test_the_command_that_makes_text_of_labelled_characters(tmp_path):
    path = tmp_path / "a b.txt"
    with pytest.raises(UserError, match="holds a character and its label a line") as error:
        check(path, "在 O\n北 B-LOC\n京 E-LOC\n\n上\tB-LOC\n海\tE-LOC\n")
    command = str(error.value).partition(" of it: ")[2].replace("NEW_FILE", "new.txt")
    subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
    text = (tmp_path / "new.txt").read_bytes()
    assert check(tmp_path / "new.txt", text) == [["在北京"], ["上海"]]


def test_labelled_characters_of_a_table_are_refused_too(tmp_path):
    """The second column has few different values, all short, like a column of labels of texts."""
    with pytest.raises(UserError, match="holds a character and its label a line"):
        check(
            tmp_path / "a.txt",
            "".join("{}\tO\n".format(x) for x in "他在北京上学，我也在。") + "北\tB-LOC\n",
        )


@pytest.mark.parametrize(
    "line, is_told", [(r"\u5929\u5730", True), (r"天。\n地。", True), (r"\nu 和 C:\new", False)]
)
def test_escapes_are_told(tmp_path, line, is_told, caplog):
    with caplog.at_level("WARNING"):
        check(tmp_path / "a.txt", line + "\n天。\n")
    assert ("ESCAPES: " in caplog.text) == is_told


@pytest.mark.parametrize(
    "assumed, encoding",
    [("latin1", "utf-8"), ("cp1252", "utf-8"), ("gb18030", "utf-8"), ("latin1", "gb2312")],
)
def test_text_that_a_program_misread(tmp_path, root, assumed, encoding, caplog):
    text = (root / "data" / "news_zh_1.txt").read_text(encoding="utf-8")[:3000]
    path = tmp_path / "a.txt"
    with caplog.at_level("WARNING", logger="absl"):
        check(path, text.encode(encoding, "ignore").decode(assumed, "ignore"))
    [message] = [message for message in caplog.messages if message.startswith("MOJIBAKE: ")]
    assert "read {} as {}, but it was {}".format(path, assumed, encoding) in message
    command = message.split("text back: ")[1].replace("NEW_FILE", str(tmp_path / "new.txt"))
    subprocess.run(command, shell=True, check=False)  # iconv drops some bytes and says so.
    mended = (tmp_path / "new.txt").read_text(encoding="utf-8")
    assert difflib.SequenceMatcher(None, text[:300], mended[:300]).ratio() > 0.6


@pytest.mark.parametrize(
    "text", ["Où est l'été, là-bas ? Ça dépend." * 9, "Ünïcödé\n" * 9, "«Ça»\n" * 9]
)
def test_other_languages_are_not_misread(text):
    assert file_types.misread(text) is None


@pytest.mark.parametrize("member", ["[Content_Types].xml", "_rels/.rels", "word/document.xml"])
def test_files_of_office_programs_are_named(tmp_path, member):
    with pytest.raises(UserError, match="is a file of Excel or Word: save it there as UTF-8 text"):
        check(tmp_path / "corpus.docx", zipped(member))


@pytest.mark.parametrize("content", [b"%PDF-1.4\n\xe2\xe3", b"{\\rtf1\\ansi \\u20320?}\n"])
def test_formatted_documents_are_named(tmp_path, content):
    with pytest.raises(UserError, match="is a formatted document: save it as plain text"):
        check(tmp_path / "corpus.txt", content)


def test_a_text_that_is_read_twice_is_told(tmp_path, caplog):
    for name in ("a.txt", "copy of a.txt"):
        (tmp_path / name).write_text("一。\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("二。\n", encoding="utf-8")  # the size of a.txt
    with gzip.open(str(tmp_path / "b.txt.gz"), "wb") as stream:
        stream.write((tmp_path / "b.txt").read_bytes())
    (tmp_path / "c.txt").write_text("三。\n", encoding="utf-8")
    with caplog.at_level("WARNING", logger="absl"):
        input_check.check_inputs(sorted(map(str, tmp_path.iterdir())), corpus.TEXT)
    told = [re.findall(r"([^/]*) has .*/([^/]*) too", text) for text in caplog.messages]
    assert told == [[("b.txt.gz", "b.txt")], [("copy of a.txt", "a.txt")]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\t0\n"])
def test_a_vocabulary_is_no_text(tmp_path, end):
    path = tmp_path / "vocab.txt"
    path.write_bytes(end.join(["[PAD]", "[CLS]", "[SEP]", "[MASK]", "一", ""]).encode("utf-8"))
    with pytest.raises(UserError, match="vocab.txt is a vocabulary, not a text"):
        input_check.check_inputs([str(path)], corpus.TEXT)


@pytest.mark.parametrize("name", ["text", "wikiextractor"])
@pytest.mark.parametrize("start", ["", '<?xml version="1.0"?>\n', "\ufeff"])
def test_a_dump_of_mediawiki_is_told(tmp_path, name, start):
    with pytest.raises(UserError, match="is a dump of MediaWiki: .*--input_format=wikiextractor"):
        check(tmp_path / "pages.xml", start + '<mediawiki xml:lang="zh">\n<page>\n', name)
