"""What is wrong with the bytes of a file, and what to do about it."""

import json
import os
import subprocess
import sys

import pytest

from common import cli, files
from common.errors import UserError
from common.file_types import mend_utf8, name_mistake, parse_json, refusal

LINES = ["他在北京上学。", "后来他到上海工作了很多年。", "天气很好，我们去公园。"]
UTF8, GB18030, BIG5 = (
    "\n".join(lines).encode(codec) + b"\n"
    for lines, codec in ((LINES, "utf-8"), (LINES, "gb18030"), (["後來他們學習", "國語"], "big5"))
)
CUT = b"\n".join(line.encode("utf-8")[:-1] for line in LINES)


@pytest.mark.parametrize(
    "content, words",
    [
        (GB18030, r"convert the file (iconv -f GB18030 -t UTF-8)"),
        (BIG5, r"convert the file (iconv -f BIG5-HKSCS -t UTF-8)"),
        (UTF8 + GB18030, "others GB18030, as if files of both were joined"),
        (GB18030 + UTF8, "convert the files of GB18030 (iconv -f GB18030 -t UTF-8) before"),
        (UTF8 + BIG5, "others BIG5-HKSCS"),
        (UTF8 + LINES[0].encode("gb18030"), "the text before is UTF-8, but not the bytes"),
        (UTF8 + CUT + b"\n", "the text before is UTF-8, but not the bytes"),
        (UTF8[:-2], "the file ends inside a character"),
        (b"\xff\xfe\xfd caf\xe9", "which is not GB18030 either"),
    ],
)
def test_the_remedy_fits_the_bytes(content, words):
    assert words in mend_utf8(content)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("[" * 100000, "Too many brackets in brackets"),
        pytest.param(
            "1" * 5000,
            "A number with too many digits",
            marks=pytest.mark.skipif(
                not hasattr(sys, "get_int_max_str_digits"), reason="this Python has no limit"
            ),
        ),
        ("{", "Expecting property name"),
    ],
)
def test_json_that_is_refused_has_one_kind_of_error(text, problem):
    with pytest.raises(json.JSONDecodeError, match=problem):
        parse_json(text)
    assert parse_json('{"a": [1]}') == {"a": [1]}


def test_utf8_needs_no_remedy():
    assert mend_utf8(UTF8) is None


@pytest.mark.parametrize(
    "text, mended",
    [
        ("天\x02地\tO\x02O\n" * 9, "天 地\tO O\n" * 9),
        ("天\x01地\x011\n" * 9, "天\t地\t1\n" * 9),
    ],
)
def test_the_command_that_replaces_a_separator_works(text, mended, tmp_path):
    path = tmp_path / "a b.tsv"
    path.write_text(text, encoding="utf-8")
    message = refusal(str(path), path.read_bytes())
    assert message.startswith(str(path)) and "\n" not in message
    command = message[message.index("tr '") :].replace("NEW_FILE", "mended")
    subprocess.run(command, shell=True, check=True, cwd=str(tmp_path))
    assert (tmp_path / "mended").read_text(encoding="utf-8") == mended


@pytest.mark.parametrize(
    "content, words",
    [
        (b"Rar!\x1a\x07\x01\0", "is a RAR archive: unpack it with unrar x 'a b'"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive: unpack it with 7z x 'a b'"),
        (b"PAR1\x15\4", "is a Parquet file: pip install pandas pyarrow, and write it as JSON"),
    ],
)
def test_archives_and_tables_that_need_other_programs(content, words):
    assert words in refusal("a b", content + bytes(range(128, 256)))


def test_several_control_characters_are_no_separator():
    assert "binary" in refusal("a", b"\1\2\3\4" * 9)
    assert refusal("a", "天\x02地".encode()) is None


@pytest.mark.parametrize(
    "encoding, name", [("GB18030", "语料.txt"), ("BIG5-HKSCS", "後來他們學習.txt")]
)
def test_a_name_in_another_encoding(encoding, name, tmp_path):
    """Python turns bytes that are not UTF-8 into surrogates; the remedy is the name in UTF-8."""
    old = os.path.join(os.fsencode(str(tmp_path)), name.encode(encoding))
    with open(old, "wb") as file:
        file.write(b"text")
    refused = "{}' is {}, not UTF-8: .* convmv -f {}".format(name, encoding, encoding)
    for find in (lambda: files.find_files(str(tmp_path / "*.txt")), lambda: parse(old)):
        with pytest.raises(UserError, match=refused):
            find()
    os.rename(old, str(tmp_path / name))
    parse(str(tmp_path / name))
    assert files.find_files(str(tmp_path / "*.txt")) == [str(tmp_path / name)]


def parse(path):
    cli.parse(lambda _: None, ["predict.py", os.fsdecode(path)], words="FILE...")


def test_bytes_that_are_no_text_in_a_name():
    assert "is not UTF-8" in name_mistake(os.fsdecode(b"a\xff"))
    assert name_mistake("语料\U00020000") is None
