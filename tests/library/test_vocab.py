"""vocab.txt is the published vocabulary."""

import hashlib
import re
import subprocess

import pytest

from common.errors import UserError
from tokenization import load_vocab

SHA256 = "45bbac6b341c319adc98a532532882e91a9cefc0329aa57bac9ae761c27b291c"


def test_vocabulary_is_the_published_one(root):
    content = (root / "albert_config" / "vocab.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert content.count(b"\n") == 21128


def test_a_vocabulary_in_gb18030_is_converted(root, tmp_path):
    path = tmp_path / "vocab.txt"
    text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n的\n一\n是\n"
    path.write_bytes(text.encode("gb18030"))
    with pytest.raises(UserError, match="vocab.txt: not UTF-8 text; convert the file") as error:
        load_vocab(str(path))
    command = re.search(r"\((iconv .*)\)", str(error.value)).group(1)
    path.write_bytes(subprocess.check_output(command.split(), input=path.read_bytes()))
    assert "是" in load_vocab(str(path))


def test_a_vocabulary_in_another_encoding_is_not_taken_for_gb18030(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\né\nà\n".encode("latin-1"))
    with pytest.raises(UserError, match="from its encoding, which is not GB18030 either"):
        load_vocab(str(path))
