"""Blocks of documents lose nothing and do not depend on the size of reads; errors are clear."""

import codecs
import gzip
import hashlib
import io
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from pretraining_data import corpus


def read_stream(stream, block_bytes, path="a.txt", format_=corpus.TEXT):
    with mock.patch.object(corpus.files, "open_file", lambda _: stream):
        return list(corpus.read_blocks(0, path, block_bytes, format_))


def blocks_of(data, block_bytes=1):
    return read_stream(io.BytesIO(data), block_bytes)


def documents_of(data, block_bytes=1):
    return [
        document
        for block in blocks_of(data, block_bytes)
        for document in corpus.parse_documents(block).documents
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("一。\n二。\n\n三。\n", [["一。", "二。"], ["三。"]]),
        ("一。\r\n二。\r\n\r\n三。", [["一。", "二。"], ["三。"]]),
        ("\n\n \n一。\n \t\n\n\n二。\n\n", [["一。"], ["二。"]]),
        ("  一。　\n　\n二。", [["一。"], ["二。"]]),
        ("\ufeff一。\n\n二。", [["一。"], ["二。"]]),
        ("一。\n　　\n二。\n\n　\n三。", [["一。"], ["二。"], ["三。"]]),
        ("一\u2028二\x0c三\x85四\n\n五", [["一\u2028二\x0c三\x85四"], ["五"]]),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 1000])
def test_documents(text, expected, block_bytes):
    assert documents_of(text.encode("utf-8"), block_bytes) == expected


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\n\n", b" \n", b"\r\n"]), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(1, 7),
)
def test_blocks_hold_everything_and_do_not_depend_on_the_size_of_reads(
    parts, block_bytes, read_bytes
):
    data = b"x" + b"".join(parts)
    blocks = blocks_of(data, block_bytes)
    assert b"".join(block.data for block in blocks) == data
    assert [block.index for block in blocks] == list(range(len(blocks)))
    for before, block in zip(blocks, blocks[1:]):
        assert block.first_line == before.first_line + before.data.count(b"\n")
        assert len(before.data) >= block_bytes
        assert before.data.endswith(b"\n")
    whole = io.BytesIO(data)
    slow = io.BytesIO(data)
    slow.read = lambda _: whole.read(read_bytes)
    assert read_stream(slow, block_bytes) == blocks
    assert documents_of(data, block_bytes) == documents_of(data, 10**6)


def test_blocks_are_numbered_in_each_file(tmp_path):
    path = str(tmp_path / "a")
    (tmp_path / "a").write_text("一。\n\n二。", encoding="utf-8")
    assert [block.index for block in corpus.read_blocks(0, path, 1)] == [0, 1]
    blocks = list(corpus.read_blocks(2, path, 1))
    assert [block.index for block in blocks] == [2 * corpus.FILE_BLOCKS, 2 * corpus.FILE_BLOCKS + 1]
    assert {block.path for block in blocks} == {path}


@pytest.mark.parametrize("data", [b"", b"\n\n \n"])
def test_a_file_without_text_is_named(data):
    with pytest.raises(UserError, match="a.txt holds no text"):
        blocks_of(data)


@pytest.mark.parametrize("block_bytes", [1, 1000])
def test_bad_utf8_is_named_with_its_line(block_bytes):
    data = "一。\n\n二。\n".encode("utf-8") + "三。\n".encode("gb18030") + b"\n\nend"
    with pytest.raises(UserError, match="a.txt, line 4: not UTF-8"):
        documents_of(data, block_bytes)


def json_block(*lines, first_line=1):
    return corpus.Block(0, "a.jsonl", first_line, "\n".join(lines).encode("utf-8"))


JSONL = corpus.Format("jsonl", ("title", "content"), split_sentences=True)


def test_json_lines_are_documents():
    block = json_block(
        '{"title": "标题", "content": "一。二？”三\\n四……五", "other": 3}',
        "",
        '{"content": "六", "title": null}',
        '{"title": "", "content": " \\n "}',
    )
    documents, counts = corpus.parse_documents(block, JSONL)
    assert documents == [["标题", "一。", "二？”", "三", "四……", "五"], ["六"]]
    assert counts == {
        "documents_dropped_as_empty": 1,
        "documents_with_field_title": 1,
        "documents_with_field_content": 2,
    }
    whole = JSONL._replace(text_fields=("content",), split_sentences=False)
    documents = corpus.parse_documents(block, whole).documents
    assert documents == [["一。二？”三", "四……五"], ["六"]]


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "a.jsonl, line 8: not JSON"),
        ("[1]", "a.jsonl, line 8: not a JSON object"),
        ('{"text": "一"}', "a.jsonl, line 8: has none of the fields title, content: it has text"),
        ('{"title": 3}', "a.jsonl, line 8: field title is not a text but 3"),
        ('{"title": 0}', "a.jsonl, line 8: field title is not a text but 0"),
        ('{"title": []}', "a.jsonl, line 8: field title is not a text but \\[\\]"),
        ('{"title": ["%s"]}' % ("x" * 999), "field title is not a text but \\['x{97}$"),
        ("[" * 100000, "a.jsonl, line 8: not JSON .*recursion"),
    ],
)
def test_bad_json_is_named_or_left_out_and_counted(line, message):
    block = json_block('{"title": "一"}', line, '{"title": "二"}', first_line=7)
    with pytest.raises(UserError, match=message):
        corpus.parse_documents(block, JSONL)
    documents, counts = corpus.parse_documents(block, JSONL._replace(skip_bad_lines=True))
    assert documents == [["一"], ["二"]]
    assert counts["lines_dropped_as_not_json"] == 1
    assert counts["documents_with_field_title"] == 2


def test_halves_of_characters_in_json_are_replaced():
    block = json_block('{"title": "一\\ud83d二", "content": "\\ud83d\\ude00三\\ude00"}')
    assert corpus.parse_documents(block, JSONL).documents == [["一\ufffd二", "😀三\ufffd"]]


def test_a_byte_order_mark_is_no_part_of_json():
    lines = '\ufeff{"title": "一"}\n'.encode("utf-8")
    for data in (lines, lines + b"\xff\n"):
        block = corpus.Block(0, "a.jsonl", 1, data)
        made = corpus.parse_documents(block, JSONL._replace(skip_bad_lines=True))
        assert made.documents == [["一"]]


def test_a_full_width_blank_line_ends_a_block():
    data = "一。\n　\n二。\n".encode("utf-8")
    assert [block.data.decode("utf-8") for block in blocks_of(data)] == ["一。\n　\n", "二。\n"]


def test_blocks_of_json_lines_end_with_lines():
    lines = ['{{"content": "{}\\n\\n{}"}}\n'.format(i, i) for i in range(50)]
    data = "".join(lines).encode("utf-8")
    blocks = read_stream(io.BytesIO(data), 100, "a.jsonl", JSONL)
    assert len(blocks) > 5
    assert b"".join(block.data for block in blocks) == data
    assert sum(len(corpus.parse_documents(block, JSONL).documents) for block in blocks) == 50


@pytest.mark.parametrize(
    "text, expected",
    [
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("真的！？！是；不…", ["真的！？！", "是；", "不…"]),
        ("3.14不分，Hello. World!", ["3.14不分，Hello. World!"]),
        ("（一。）二。", ["（一。）", "二。"]),
        ("。", ["。"]),
        ("他说：“好。”", ["他说：“好。”"]),
        ("啊……", ["啊……"]),
        ("“好！”，他说。再见？！", ["“好！”，他说。", "再见？！"]),
    ],
)
def test_sentences_end_with_their_closing_marks(text, expected):
    block = corpus.Block(0, "a", 1, text.encode("utf-8"))
    split = corpus.parse_documents(block, corpus.Format(split_sentences=True))
    assert split.documents == [expected]
    assert corpus.parse_documents(block, corpus.Format()).documents == [[text]]


def test_a_byte_order_mark_does_not_move_the_line_of_an_error():
    data = codecs.BOM_UTF8 + "一。\n".encode("utf-8") + "二。\n".encode("gb18030")
    with pytest.raises(UserError, match="line 2: not UTF-8 text"):
        corpus.parse_documents(corpus.Block(0, "a", 1, data))


def test_lines_that_are_not_utf8_can_be_left_out_and_are_counted():
    data = "一。\n".encode("utf-8") + "二。\n".encode("gb18030") + "三。\n\n四。".encode("utf-8")
    block = corpus.Block(0, "a", 1, data)
    documents, dropped = corpus.parse_documents(block, corpus.Format(skip_bad_lines=True))
    assert documents == [["一。", "三。"], ["四。"]]
    assert dropped == {"lines_dropped_as_not_utf8": 1}


def test_gzipped_files_are_read_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "a.txt.gz"
    data = "一。\n\n二。\n".encode("utf-8") * 1000
    path.write_bytes(gzip.compress(data))
    blocks = list(corpus.read_blocks(0, str(path), 1000))
    assert b"".join(block.data for block in blocks) == data
    assert len(blocks) > 5
    packed = gzip.compress(data)
    for damaged in (packed[:-20], data, packed[:30] + b"\0\0" + packed[32:], packed + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot read .*a.txt.gz"):
            list(corpus.read_blocks(0, str(path), 1000))


def test_gzipped_files_are_known_by_their_contents(tmp_path):
    path = tmp_path / "a.txt"
    data = "一。\n\n二。\n".encode("utf-8") * 1000
    packed = gzip.compress(data[:500]) + gzip.compress(data[500:])
    path.write_bytes(packed)
    digest = hashlib.sha256()
    blocks = corpus.read_blocks(0, str(path), 1000, digest=digest)
    assert b"".join(block.data for block in blocks) == data
    assert digest.digest() == hashlib.sha256(packed).digest()


@pytest.mark.parametrize("line", ["中文" * 10 + "\n", "中文a"])
def test_a_document_that_is_too_long_is_cut_and_nothing_lost(monkeypatch, line):
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 10000)
    monkeypatch.setattr(corpus, "READ_BYTES", 999)
    data = (line * 20000).encode("utf-8")
    blocks = blocks_of(data, 100)
    assert b"".join(block.data for block in blocks) == data
    assert [block.is_cut for block in blocks] == [True] * (len(blocks) - 1) + [False]
    assert max(len(block.data) for block in blocks) <= 11100
    for block in blocks[:-1]:
        block.data.decode("utf-8")
        assert block.data.endswith(b"\n") is line.endswith("\n")


def test_json_that_is_too_long_is_named(monkeypatch):
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 1000)
    monkeypatch.setattr(corpus, "READ_BYTES", 99)
    data = b'{"content": "a"}\n{"content": "' + b"a" * 3000 + b'"}\n'
    with pytest.raises(UserError, match="a.jsonl, line 2: more than 0 MB of JSON"):
        read_stream(io.BytesIO(data), 10, "a.jsonl", JSONL)


def test_the_digest_is_that_of_the_file(tmp_path):
    path = str(tmp_path / "a.gz")
    with open(path, "wb") as stream:
        stream.write(gzip.compress("一。".encode("utf-8")))
    digest = hashlib.sha256()
    list(corpus.read_blocks(0, path, 100, digest=digest))
    with open(path, "rb") as stream:
        assert digest.hexdigest() == hashlib.sha256(stream.read()).hexdigest()


def test_small_corpora_have_many_blocks():
    assert corpus.block_bytes(0) == corpus.MIN_BLOCK_BYTES
    assert corpus.block_bytes(28 << 20) == 28 << 14
    assert corpus.block_bytes(1 << 40) == corpus.MAX_BLOCK_BYTES


WIKI = corpus.Format("wikiextractor")
PAGES = """<doc id="13" url="https://zh.wikipedia.org/wiki?curid=13" title="数学">
数学

数学是研究数量的学科。
a &lt; b，R&amp;D

</doc>
<doc id="18" url="https://zh.wikipedia.org/wiki?curid=18" title="重定向">
重定向

</doc>
<doc id="22" url="https://zh.wikipedia.org/wiki?curid=22" title="A &gt; B">
A &gt; B

哲学。
</doc>
"""


@pytest.mark.parametrize("block_bytes", [1, 1000])
def test_pages_of_wikiextractor_are_documents(block_bytes):
    blocks = read_stream(io.BytesIO(PAGES.encode("utf-8")), block_bytes, "wiki_00", WIKI)
    assert len(blocks) == (3 if block_bytes == 1 else 1)
    assert "".join(block.data.decode("utf-8") for block in blocks) == PAGES
    parsed = [corpus.parse_documents(block, WIKI) for block in blocks]
    assert [document for documents, _ in parsed for document in documents] == [
        ["数学", "数学是研究数量的学科。", "a < b，R&D"],
        ["A > B", "哲学。"],
    ]
    assert sum(counts["documents_dropped_as_empty"] for _, counts in parsed) == 1


def test_html_is_removed_on_request_and_divides_no_document():
    text = "<p>一。&nbsp;二</p>\n<br/>\n3 < 5 且 <名> 5 > 3<BR>四<b class='x'>五</b>\n\n六"
    block = corpus.Block(0, "a", 1, text.encode("utf-8"))
    documents = corpus.parse_documents(block, corpus.Format(strip_html=True)).documents
    assert documents == [["一。\xa0二", "3 < 5 且 <名> 5 > 3", "四五"], ["六"]]
    assert corpus.parse_documents(block).documents == [text.split("\n")[:3], ["六"]]
    block = json_block(
        '{"title": "&#20013;<!-- x -->&amp;lt;", "content": "<script>\\nx</script>一"}'
    )
    documents = corpus.parse_documents(block, JSONL._replace(strip_html=True)).documents
    assert documents == [["中&lt;", "一"]]
