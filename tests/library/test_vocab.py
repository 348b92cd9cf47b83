"""vocab.txt is the published vocabulary, and the script that makes it still makes it."""

import hashlib
import importlib.util

import pytest

SHA256 = "45bbac6b341c319adc98a532532882e91a9cefc0329aa57bac9ae761c27b291c"


@pytest.fixture
def make_vocab(root):
    pytest.importorskip("blingfire")
    path = root / "albert_config" / "make_vocab.py"
    spec = importlib.util.spec_from_file_location("make_vocab", str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_vocabulary_is_the_published_one(root):
    content = (root / "albert_config" / "vocab.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert content.count(b"\n") == 21128


def test_script_makes_the_published_vocabulary(make_vocab, tmp_path):
    path = tmp_path / "vocab.txt"
    make_vocab.main(str(path))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


def test_script_refuses_another_vocabulary(make_vocab, tmp_path, monkeypatch):
    monkeypatch.setattr(make_vocab, "STRIPPED", {})
    path = tmp_path / "vocab.txt"
    with pytest.raises(SystemExit, match="not the published vocabulary"):
        make_vocab.main(str(path))
    assert not path.exists()
