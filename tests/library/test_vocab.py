"""vocab.txt is the published vocabulary."""

import hashlib

SHA256 = "45bbac6b341c319adc98a532532882e91a9cefc0329aa57bac9ae761c27b291c"


def test_vocabulary_is_the_published_one(root):
    content = (root / "albert_config" / "vocab.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert content.count(b"\n") == 21128
